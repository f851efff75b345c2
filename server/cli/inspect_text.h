#pragma once

#include <string>

#include "engine/checkpoint/checkpoint.h"

namespace mea {

// The text side of a checkpoint, as `mea serve` would use it: tokenizer, special tokens, chat
// templates, formats of tool calls and reasoning. A part that cannot be read says so in its line.
std::string InspectText(const Checkpoint& checkpoint);

}  // namespace mea
