#pragma once

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/config/config.h"
#include "engine/model/model_weights.h"
#include "kernels/thread_plan.h"

namespace mea {

// Where the memory of an engine lies on a machine whose nodes have memory of their own.
enum class NumaPolicy : uint8_t {
  kOff,         // where the system puts it
  kInterleave,  // page by page on every node in turn
  kLocal,       // so, but each row of the weights near the threads that read it
};
absl::StatusOr<NumaPolicy> ParseNumaPolicy(const std::string& name);

using MoveToNode = absl::FunctionRef<void(const void* data, int64_t bytes, int node)>;

// Moves the matrices of every product so: a cluster of threads owns as large a share of the rows,
// in order, as it has of the threads (MatMulSchedule gives it just these).
void MoveRowsToNodes(const ModelConfig& config, const ModelWeights& weights, const ThreadPlan& plan,
                     MoveToNode move);

}  // namespace mea
