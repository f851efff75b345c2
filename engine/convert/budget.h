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

// Of every item one choice, all together within `budget` bytes, at the least sum of losses: exact,
// by dynamic programming over bytes. Index of the choice of each item; INVALID_ARGUMENT where even
// the smallest choices exceed the budget. Among equals the one with more bytes is taken.
absl::StatusOr<std::vector<int>> SpendBudget(const std::vector<std::vector<Choice>>& items,
                                             int64_t budget);

}  // namespace mea::convert
