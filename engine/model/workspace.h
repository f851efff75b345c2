#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "kernels/backend.h"

namespace mea {

struct ModelLimits {
  int max_batch_tokens = 512;  // rows of one forward pass
  int max_num_seqs = 64;       // sequences of one forward pass
  int max_logit_rows = 64;     // rows of logits computed at a time
  int page_size = 16;          // tokens per page of the cache, or fewer
  KvDTypes kv_dtype = {};      // of the cache: a device plans its scratch memory by it
};

// The columns of one layer's projections, side by side in one buffer: what a device computes in one
// product. Values have rows of their own where the attention variant wants them dense.
struct QkvViews {
  TensorView q;  // [num_tokens, q_heads * head_dim]
  TensorView k;  // [num_tokens, h'_K * head_dim]
  TensorView v;  // [num_tokens, h'_V * head_dim]
};

// Every activation of a forward pass, allocated once. Views are of the first num_tokens rows.
class Workspace {
 public:
  // `has_output`: with rows of logits.
  static absl::StatusOr<Workspace> Create(const ModelConfig& config, const ModelLimits& limits,
                                          bool has_output, Backend& backend);

  // What Create would allocate.
  static int64_t PlannedBytes(const ModelConfig& config, const ModelLimits& limits, bool has_output,
                              DType compute, DType wide);

  TensorView residual(int num_tokens) const { return residual_.view().Rows(0, num_tokens); }
  TensorView normed(int num_tokens) const { return normed_.view().Rows(0, num_tokens); }
  TensorView delta(int num_tokens) const { return delta_.view().Rows(0, num_tokens); }
  TensorView cos_sin(int num_tokens) const { return cos_sin_.view().Rows(0, num_tokens); }
  // Of ModelConfig::other_rope.
  TensorView other_cos_sin(int num_tokens) const {
    return other_cos_sin_.view().Rows(0, num_tokens);
  }
  TensorView attended(int num_tokens) const { return attended_.view().Rows(0, num_tokens); }
  TensorView gate(int num_tokens) const { return gate_up(num_tokens).Columns(0, ffn_size_); }
  TensorView up(int num_tokens) const { return gate_up(num_tokens).Columns(ffn_size_, ffn_size_); }
  // For num_rows pairs of a token and one of its experts.
  TensorView expert_inner(int num_rows) const { return expert_inner_.view().Rows(0, num_rows); }
  TensorView expert_rows(int num_rows) const { return expert_rows_.view().Rows(0, num_rows); }
  // The number of component heads may differ from layer to layer.
  QkvViews qkv(int num_tokens, int key_heads, int value_heads) const;
  // AttentionVariant::Buffers, into `views`.
  void variant_buffers(int num_tokens, std::vector<TensorView>& views) const;
  TensorView last_hidden(int rows) const { return last_hidden_.view().Rows(0, rows); }
  TensorView logits(int rows) const { return logits_.view().Rows(0, rows); }

  int64_t num_bytes() const { return num_bytes_; }

 private:
  // Calls visit(tensor of `workspace`, shape, is_wide) for every tensor.
  template <typename Visit>
  static void ForEachTensor(const ModelConfig& config, const ModelLimits& limits, bool has_output,
                            Workspace& workspace, Visit visit);

  TensorView gate_up(int num_tokens) const { return gate_up_.view().Rows(0, num_tokens); }

  int q_heads_ = 0;
  int head_dim_ = 0;
  int ffn_size_ = 0;
  int64_t num_bytes_ = 0;
  Tensor residual_;       // [max_tokens, hidden] wide
  Tensor normed_;         // [max_tokens, hidden]
  Tensor delta_;          // [max_tokens, hidden] what a block adds to the residual
  Tensor cos_sin_;        // [max_tokens, head_dim] wide
  Tensor other_cos_sin_;  // likewise, where there is another rotation
  Tensor qkv_;            // [max_tokens, (q_heads + 2 * kv_heads) * head_dim], room for any layer
  Tensor attended_;       // [max_tokens, q_heads * head_dim]
  Tensor dense_values_;   // [max_tokens, kv_heads * head_dim], where the variant wants it
  std::vector<Tensor> variant_buffers_;
  Tensor gate_up_;  // [max_tokens, 2 * ffn], where a layer is dense
  // Where a layer has experts:
  Tensor expert_inner_;  // [max_tokens * top_k, ffn of an expert]
  Tensor expert_rows_;   // [max_tokens * top_k, hidden]
  // Where the output is:
  Tensor last_hidden_;  // [max_logit_rows, hidden]
  Tensor logits_;       // [max_logit_rows, vocab] wide
};

}  // namespace mea
