#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <string_view>

namespace mea {

// What a client's JSON may be.
struct JsonBounds {
  int max_depth = 0;  // lists and objects within one another
  int64_t max_containers = 200'000;
  // Of n keys in one object: n^2 / 2, since a parser that keeps their order seeks each among those
  // before it; 4,000 keys are 8 million.
  int64_t max_look_ups = 20'000'000;
};

// Asked before it is parsed, in a pass over its bytes; whether it is JSON only as to NUL bytes.
// INVALID_ARGUMENT: the rest of a sentence that begins with what the text is.
absl::Status CheckJsonBounds(std::string_view text, const JsonBounds& bounds);

}  // namespace mea
