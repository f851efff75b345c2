#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace mea {

// What is asked of a client's JSON before it is parsed, in one pass over its bytes: that it is not
// nested too deeply, has not too many lists and objects, and no objects so large that looking keys
// up one by one, as a parser that keeps their order does, takes long. Not whether it is JSON.
// INVALID_ARGUMENT: the rest of a sentence that begins with what the text is.
absl::Status CheckJsonBounds(std::string_view text);

}  // namespace mea
