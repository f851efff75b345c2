#pragma once

#include <memory>

#include "engine/text/tokenizer.h"

namespace mea::testing {

// One token per byte, its id the byte's value; an end of sequence; one long token (fake_engine.h).
std::unique_ptr<Tokenizer> MakeTestTokenizer();

}  // namespace mea::testing
