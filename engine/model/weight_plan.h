#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/weights.h"

namespace mea {

// One tensor of the checkpoint and the view it becomes.
struct WeightTask {
  const StoredTensor* stored = nullptr;
  TensorView* view = nullptr;
  std::vector<int64_t> shape;  // of the view
  DType dtype = DType::kF32;   // of the view
  bool is_matrix = false;
  bool stays_exact = false;           // never in 8 bits: it is small but important
  bool is_temporary = false;          // not needed once everything is loaded
  const TensorView* knock = nullptr;  // [d, d]: applied to every head of the rows, when loaded
  // Elements are read as three dimensions and stored in this order, outermost to innermost.
  std::array<int64_t, 3> dims{};
  std::array<int, 3> order{};  // all zero: as they are
};

struct WeightPlan {
  std::vector<WeightTask> tasks;
  std::deque<TensorView> knocks;  // where tasks find them while they are loaded
};

// Matches the tensors that the configuration requires with those of the checkpoint. Refuses the
// first mismatch as LoadWeights does. Tasks point into `weights`, whose layers it creates.
absl::StatusOr<WeightPlan> PlanWeights(const Checkpoint& checkpoint, const LoadOptions& options,
                                       ModelWeights& weights);

}  // namespace mea
