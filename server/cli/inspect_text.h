#pragma once

#include <string>

#include "engine/checkpoint/checkpoint.h"

namespace mea {

// What of a checkpoint is about text, as `mea serve` would take it: tokenizer, special tokens, chat
// templates, formats of tool calls and reasoning. What cannot be read is told in its line.
std::string InspectText(const Checkpoint& checkpoint);

}  // namespace mea
