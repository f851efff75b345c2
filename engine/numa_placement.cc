#include "engine/numa_placement.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

// Rows [first, first + count) of the matrices of a product, one behind the other.
void MoveRows(std::span<const TensorSpec> product, int64_t first, int64_t count, int node,
              MoveToNode move) {
  for (const TensorSpec& spec : product) {
    const TensorView& matrix = *spec.view;
    const int64_t begin = std::clamp<int64_t>(first, 0, matrix.shape[0]);
    const int64_t end = std::clamp<int64_t>(first + count, 0, matrix.shape[0]);
    const int64_t row_bytes = matrix.stride[0] * DTypeSize(matrix.dtype);
    if (begin < end) {
      move(static_cast<const char*>(matrix.data) + begin * row_bytes, (end - begin) * row_bytes,
           node);
    }
    first -= matrix.shape[0];
  }
}

}  // namespace

absl::StatusOr<NumaPolicy> ParseNumaPolicy(const std::string& name) {
  if (name == "off") return NumaPolicy::kOff;
  if (name == "interleave") return NumaPolicy::kInterleave;
  if (name == "local") return NumaPolicy::kLocal;
  return absl::InvalidArgumentError(
      absl::StrCat("--numa \"", name, "\" is none of off, interleave, local"));
}

void MoveRowsToNodes(const ModelConfig& config, const ModelWeights& weights, const ThreadPlan& plan,
                     MoveToNode move) {
  // A copy of the views, which is all that the list needs.
  ModelWeights views{.embedding = weights.embedding,
                     .layers = weights.layers,
                     .final_norm = weights.final_norm,
                     .lm_head = weights.lm_head,
                     .storage = {},
                     .unchecked = {}};
  const TensorList list = ListTensors(config, views);
  const int64_t num_threads = plan.num_threads();
  for (const std::span<const TensorSpec> product : RunsOf(list)) {
    if (!product.front().is_matrix()) continue;
    int64_t rows = 0;
    for (const TensorSpec& spec : product) rows += spec.view->shape[0];
    for (int64_t begin = 0, end = 0; begin < num_threads; begin = end) {
      const ThreadPlan::Thread& first = plan.threads[begin];
      while (end < num_threads && plan.threads[end].cluster == first.cluster) ++end;
      const int64_t row = rows * begin / num_threads;
      MoveRows(product, row, rows * end / num_threads - row, first.node, move);
    }
  }
}

}  // namespace mea
