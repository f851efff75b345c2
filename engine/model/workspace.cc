#include "engine/model/workspace.h"

#include <array>

namespace mea {

absl::StatusOr<Workspace> Workspace::Create(const ModelConfig& config, const ModelLimits& limits,
                                            Backend& backend) {
  Workspace w;
  w.head_dim_ = config.head_dim;
  const int64_t tokens = limits.max_batch_tokens;
  const int64_t q_width = int64_t{config.q_heads} * config.head_dim;
  const int64_t kv_width = int64_t{config.kv_heads} * config.head_dim;

  absl::Status status;
  auto allocate = [&](Tensor& tensor, std::initializer_list<int64_t> shape) {
    if (!status.ok()) return;
    absl::StatusOr<Tensor> allocated =
        backend.Allocate(std::span(shape.begin(), shape.size()), backend.compute_dtype());
    if (allocated.ok()) {
      tensor = *std::move(allocated);
    } else {
      status = allocated.status();
    }
  };
  for (Tensor* tensor : {&w.residual_, &w.normed_, &w.delta_}) {
    allocate(*tensor, {tokens, config.hidden_size});
  }
  allocate(w.cos_sin_, {tokens, config.head_dim});
  for (Tensor* tensor : {&w.q_, &w.attended_}) allocate(*tensor, {tokens, q_width});
  for (Tensor* tensor : {&w.gate_, &w.up_}) allocate(*tensor, {tokens, config.ffn_size});
  for (Tensor* tensor : {&w.k_, &w.v_}) allocate(*tensor, {tokens * kv_width});
  allocate(w.last_hidden_, {limits.max_logit_rows, config.hidden_size});
  allocate(w.logits_, {limits.max_logit_rows, config.vocab_size});
  if (!status.ok()) return status;
  return w;
}

int64_t Workspace::num_bytes() const {
  int64_t bytes = 0;
  for (const Tensor* tensor : {&residual_, &normed_, &delta_, &cos_sin_, &q_, &attended_, &gate_,
                               &up_, &k_, &v_, &last_hidden_, &logits_}) {
    bytes += tensor->num_bytes();
  }
  return bytes;
}

}  // namespace mea
