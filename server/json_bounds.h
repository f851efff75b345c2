#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace mea {

// Bounds a client's JSON before it is parsed, in one pass over its bytes: its depth, its number of
// lists and objects, and the size of objects, since a parser that keeps the order of keys looks
// them up one by one. Does not check that it is JSON. INVALID_ARGUMENT: the rest of a sentence that
// begins with the name of the text.
absl::Status CheckJsonBounds(std::string_view text);

}  // namespace mea
