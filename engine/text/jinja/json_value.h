#pragma once

#include <absl/status/statusor.h>

#include <string_view>

#include "engine/text/jinja/value.h"

namespace mea::jinja {

// Reads JSON as Python's json.loads does: key order is kept, the last of equal keys wins. Strings
// are marked as inputs if `input`. Errors say what is wrong at which byte; a document is at most
// kMaxValueDepth deep.
absl::StatusOr<Value> ParseJsonValue(std::string_view json, bool input);

}  // namespace mea::jinja
