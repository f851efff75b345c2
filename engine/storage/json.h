#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mea {

inline constexpr int kMaxJsonDepth = 32;  // no file of a checkpoint nests deeper than twenty

// Parses JSON according to RFC 8259. It also refuses names that occur twice in one object (which
// parsers usually drop silently) and nesting deeper than kMaxJsonDepth. INVALID_ARGUMENT: one line
// that starts with `file`.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& file);

// A value as a message shows it: JSON on one line, shortened.
std::string ShownValue(const nlohmann::json& value);

}  // namespace mea
