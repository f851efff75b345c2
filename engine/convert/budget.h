#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace mea::convert {

// One way to store something, and what it costs.
struct Choice {
  int64_t bytes = 0;
  double loss = 0;
};

// Picks one choice per item, together within `budget` bytes, with the least sum of losses: exact,
// by dynamic programming over bytes. Returns the index of each item's choice; INVALID_ARGUMENT if
// even the smallest choices exceed the budget. Among equals the one with more bytes wins.
absl::StatusOr<std::vector<int>> SpendBudget(const std::vector<std::vector<Choice>>& items,
                                             int64_t budget);

}  // namespace mea::convert
