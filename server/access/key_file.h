#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/access/api_key.h"

namespace mea {

inline constexpr int64_t kMaxKeyFileBytes = 1 << 20;
inline constexpr int64_t kMaxKeyLimit = int64_t{1} << 50;  // doubles count to there exactly

// A key file has one JSON object per line; empty lines and lines that begin with # are skipped:
//   {"name": "alice", "rights": ["inference"], "sha256": "9f86...", "requests_per_minute": 60}
// INVALID_ARGUMENT names the line, the field and what is wrong with it: an unknown field, a
// repeated name or hash.
absl::StatusOr<std::vector<ApiKey>> ParseKeyFile(std::string_view text);

// OK if `name` can name a key: 1 to 64 letters, digits, '.', '_', '-'.
absl::Status CheckKeyName(std::string_view name);

// The right with that name. INVALID_ARGUMENT lists the existing ones.
absl::StatusOr<Right> ParseRight(std::string_view name);

// The line of a key, without its end.
std::string KeyFileLine(const ApiKey& key);

}  // namespace mea
