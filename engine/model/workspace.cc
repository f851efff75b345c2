#include "engine/model/workspace.h"

#include <array>

namespace mea {

template <typename Visit>
void Workspace::ForEachTensor(const ModelConfig& config, const ModelLimits& limits, Visit visit) {
  using Shape = std::array<int64_t, 2>;
  constexpr bool kWide = true;
  const int64_t tokens = limits.max_batch_tokens;
  const int64_t rows = limits.max_logit_rows;
  const int64_t head_dim = config.head_dim;
  visit(&Workspace::residual_, Shape{tokens, config.hidden_size}, kWide);
  visit(&Workspace::normed_, Shape{tokens, config.hidden_size}, !kWide);
  visit(&Workspace::delta_, Shape{tokens, config.hidden_size}, !kWide);
  visit(&Workspace::cos_sin_, Shape{tokens, head_dim}, kWide);
  visit(&Workspace::qkv_, Shape{tokens, (config.q_heads + 2 * config.kv_heads) * head_dim}, !kWide);
  visit(&Workspace::attended_, Shape{tokens, config.q_heads * head_dim}, !kWide);
  if (config.knock == Knock::kMlp) {
    const int64_t width = int64_t{config.kv_heads} * head_dim;
    visit(&Workspace::knock_values_, Shape{tokens, width}, !kWide);
    visit(&Workspace::knock_gate_up_, Shape{tokens, 2 * width}, !kWide);
  }
  if (config.pseudo_heads > 0) {
    const int64_t width = int64_t{config.pseudo_heads} * config.kv_heads * head_dim;
    visit(&Workspace::pseudo_cos_sin_, Shape{tokens, config.pseudo_heads * head_dim}, kWide);
    visit(&Workspace::pseudo_queries_, Shape{tokens, width}, !kWide);
    visit(&Workspace::pseudo_attended_, Shape{tokens, width}, !kWide);
  }
  if (config.num_sparse_layers() < config.num_layers) {
    visit(&Workspace::gate_up_, Shape{tokens, 2 * int64_t{config.ffn_size}}, !kWide);
  }
  if (config.num_sparse_layers() > 0) {
    const int64_t expert_rows = tokens * config.moe.top_k;
    visit(&Workspace::expert_inner_, Shape{expert_rows, config.moe.ffn_size}, !kWide);
    visit(&Workspace::expert_rows_, Shape{expert_rows, config.hidden_size}, !kWide);
  }
  visit(&Workspace::last_hidden_, Shape{rows, config.hidden_size}, !kWide);
  visit(&Workspace::logits_, Shape{rows, config.vocab_size}, kWide);
}

absl::StatusOr<Workspace> Workspace::Create(const ModelConfig& config, const ModelLimits& limits,
                                            Backend& backend) {
  Workspace workspace;
  workspace.q_heads_ = config.q_heads;
  workspace.head_dim_ = config.head_dim;
  workspace.pseudo_heads_ = config.pseudo_heads;
  workspace.ffn_size_ = config.ffn_size;
  absl::Status status;
  ForEachTensor(
      config, limits, [&](Tensor Workspace::*member, std::span<const int64_t> shape, bool is_wide) {
        if (!status.ok()) return;
        absl::StatusOr<Tensor> tensor =
            backend.Allocate(shape, is_wide ? backend.wide_dtype() : backend.compute_dtype());
        status = tensor.status();
        if (!status.ok()) return;
        workspace.num_bytes_ += tensor->num_bytes();
        workspace.*member = *std::move(tensor);
      });
  if (!status.ok()) return status;
  return workspace;
}

int64_t Workspace::PlannedBytes(const ModelConfig& config, const ModelLimits& limits, DType compute,
                                DType wide) {
  int64_t bytes = 0;
  ForEachTensor(config, limits,
                [&](Tensor Workspace::*, std::span<const int64_t> shape, bool is_wide) {
                  bytes += shape[0] * shape[1] * DTypeSize(is_wide ? wide : compute);
                });
  return bytes;
}

QkvViews Workspace::qkv(int num_tokens, int key_heads, int value_heads) const {
  const int64_t q_width = int64_t{q_heads_} * head_dim_;
  const int64_t k_width = int64_t{key_heads} * head_dim_;
  const int64_t v_width = int64_t{value_heads} * head_dim_;
  const int64_t width = q_width + k_width + v_width;
  const TensorView rows = qkv_.view()
                              .Reshape({qkv_.view().num_elements()})
                              .Rows(0, num_tokens * width)
                              .Reshape({num_tokens, width});
  return {.q = rows.Columns(0, q_width),
          .k = rows.Columns(q_width, k_width),
          .v = knock_values_.view().empty() ? rows.Columns(q_width + k_width, v_width)
                                            : knock_values_.view().Rows(0, num_tokens)};
}

TensorView Workspace::knock_gate_up(int num_tokens) const {
  const int64_t d = head_dim_;
  const TensorView rows = knock_gate_up_.view().Rows(0, num_tokens);
  return rows.Reshape({rows.num_elements() / (2 * d), 2 * d});
}

}  // namespace mea
