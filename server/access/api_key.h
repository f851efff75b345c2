#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace mea {

// What a key opens.
enum class Right { kInference, kControl, kMetrics };
inline constexpr std::array<std::pair<Right, std::string_view>, 3> kRightNames = {{
    {Right::kInference, "inference"},
    {Right::kControl, "control"},
    {Right::kMetrics, "metrics"},
}};
std::string_view RightName(Right right);

using Sha256 = std::array<uint8_t, 32>;
Sha256 HashOf(std::string_view token);
// Takes the same time wherever they differ.
bool IsSameHash(const Sha256& a, const Sha256& b);

// The limits of a key; 0: no limit.
struct KeyLimits {
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;  // of prompts and completions together
  int64_t concurrent_requests = 0;
  int64_t kv_cache_bytes = 0;  // that its requests may hold at once
};

// One key of the key file. Only its owner knows the token itself.
struct ApiKey {
  std::string name;
  std::array<bool, kRightNames.size()> rights{};  // by Right
  Sha256 hash{};
  KeyLimits limits;

  bool has(Right right) const { return rights[static_cast<size_t>(right)]; }
};

// 256 random bits that no one can guess: a plain hash of them is as good as a slow one.
absl::StatusOr<std::string> NewToken();

}  // namespace mea
