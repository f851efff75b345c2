#include "engine/model/workspace.h"

#include <array>

namespace mea {

template <typename Visit>
void Workspace::ForEachTensor(const ModelConfig& config, const ModelLimits& limits, Visit visit) {
  using Shape = std::array<int64_t, 2>;
  const int64_t tokens = limits.max_batch_tokens;
  const int64_t rows = limits.max_logit_rows;
  const int64_t q_width = int64_t{config.q_heads} * config.head_dim;
  const int64_t kv_width = int64_t{config.kv_heads} * config.head_dim;
  visit(&Workspace::residual_, Shape{tokens, config.hidden_size});
  visit(&Workspace::normed_, Shape{tokens, config.hidden_size});
  visit(&Workspace::delta_, Shape{tokens, config.hidden_size});
  visit(&Workspace::cos_sin_, Shape{tokens, config.head_dim});
  visit(&Workspace::q_, Shape{tokens, q_width});
  visit(&Workspace::attended_, Shape{tokens, q_width});
  visit(&Workspace::gate_, Shape{tokens, config.ffn_size});
  visit(&Workspace::up_, Shape{tokens, config.ffn_size});
  visit(&Workspace::k_, Shape{tokens, kv_width});
  visit(&Workspace::v_, Shape{tokens, kv_width});
  visit(&Workspace::last_hidden_, Shape{rows, config.hidden_size});
  visit(&Workspace::logits_, Shape{rows, config.vocab_size});
}

absl::StatusOr<Workspace> Workspace::Create(const ModelConfig& config, const ModelLimits& limits,
                                            Backend& backend) {
  Workspace workspace;
  workspace.head_dim_ = config.head_dim;
  absl::Status status;
  ForEachTensor(config, limits, [&](Tensor Workspace::*member, std::span<const int64_t> shape) {
    if (!status.ok()) return;
    absl::StatusOr<Tensor> tensor = backend.Allocate(shape, backend.compute_dtype());
    status = tensor.status();
    if (!status.ok()) return;
    workspace.num_bytes_ += tensor->num_bytes();
    workspace.*member = *std::move(tensor);
  });
  if (!status.ok()) return status;
  return workspace;
}

int64_t Workspace::PlannedBytes(const ModelConfig& config, const ModelLimits& limits, DType dtype) {
  int64_t bytes = 0;
  ForEachTensor(config, limits, [&](Tensor Workspace::*, std::span<const int64_t> shape) {
    bytes += shape[0] * shape[1] * DTypeSize(dtype);
  });
  return bytes;
}

}  // namespace mea
