#include "engine/model/workspace.h"

#include <array>

#include "engine/attention/variant.h"
#include "kernels/status_macros.h"

namespace mea {

template <typename Visit>
void Workspace::ForEachTensor(const ModelConfig& config, const ModelLimits& limits, bool has_output,
                              Workspace& workspace, Visit visit) {
  using Shape = std::array<int64_t, 2>;
  constexpr bool kWide = true;
  const int64_t tokens = limits.max_batch_tokens;
  const int64_t rows = limits.max_logit_rows;
  const int64_t head_dim = config.head_dim;
  visit(workspace.residual_, Shape{tokens, config.hidden_size}, kWide);
  visit(workspace.normed_, Shape{tokens, config.hidden_size}, !kWide);
  visit(workspace.delta_, Shape{tokens, config.hidden_size}, !kWide);
  visit(workspace.cos_sin_, Shape{tokens, head_dim}, kWide);
  if (config.other_rope) visit(workspace.other_cos_sin_, Shape{tokens, head_dim}, kWide);
  visit(workspace.qkv_, Shape{tokens, (config.q_heads + 2 * config.kv_heads) * head_dim}, !kWide);
  visit(workspace.attended_, Shape{tokens, config.q_heads * head_dim}, !kWide);
  const AttentionVariant& attention = AttentionOf(config);
  if (attention.has_dense_values()) {
    visit(workspace.dense_values_, Shape{tokens, config.kv_heads * head_dim}, !kWide);
  }
  const std::vector<RowBuffer> buffers = attention.Buffers(config);
  workspace.variant_buffers_.resize(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    visit(workspace.variant_buffers_[i], Shape{tokens, buffers[i].columns}, buffers[i].is_wide);
  }
  if (config.num_sparse_layers() < config.num_layers) {
    visit(workspace.gate_up_, Shape{tokens, 2 * int64_t{config.ffn_size}}, !kWide);
  }
  if (config.num_sparse_layers() > 0) {
    const int64_t expert_rows = tokens * config.moe.top_k;
    visit(workspace.expert_inner_, Shape{expert_rows, config.moe.ffn_size}, !kWide);
    visit(workspace.expert_rows_, Shape{expert_rows, config.hidden_size}, !kWide);
  }
  if (has_output) {
    visit(workspace.last_hidden_, Shape{rows, config.hidden_size}, !kWide);
    visit(workspace.logits_, Shape{rows, config.vocab_size}, kWide);
  }
}

absl::StatusOr<Workspace> Workspace::Create(const ModelConfig& config, const ModelLimits& limits,
                                            bool has_output, Backend& backend) {
  Workspace workspace;
  workspace.q_heads_ = config.q_heads;
  workspace.head_dim_ = config.head_dim;
  workspace.ffn_size_ = config.ffn_size;
  absl::Status status;
  ForEachTensor(config, limits, has_output, workspace,
                [&](Tensor& tensor, std::span<const int64_t> shape, bool is_wide) {
                  if (!status.ok()) return;
                  absl::StatusOr<Tensor> allocated = backend.Allocate(
                      shape, is_wide ? backend.wide_dtype() : backend.compute_dtype());
                  status = allocated.status();
                  if (!status.ok()) return;
                  workspace.num_bytes_ += allocated->num_bytes();
                  tensor = *std::move(allocated);
                });
  MEA_RETURN_IF_ERROR(status);
  return workspace;
}

int64_t Workspace::PlannedBytes(const ModelConfig& config, const ModelLimits& limits,
                                bool has_output, DType compute, DType wide) {
  Workspace unmade;
  int64_t bytes = 0;
  ForEachTensor(config, limits, has_output, unmade,
                [&](Tensor&, std::span<const int64_t> shape, bool is_wide) {
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
          .v = dense_values_.view().empty() ? rows.Columns(q_width + k_width, v_width)
                                            : dense_values_.view().Rows(0, num_tokens)};
}

void Workspace::variant_buffers(int num_tokens, std::vector<TensorView>& views) const {
  views.clear();
  for (const Tensor& buffer : variant_buffers_) views.push_back(buffer.view().Rows(0, num_tokens));
}

}  // namespace mea
