#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/config.h"
#include "kernels/backend.h"

namespace mea {

struct ModelLimits {
  int max_batch_tokens = 512;  // rows of one forward pass
  int max_logit_rows = 64;     // rows of logits computed at a time
};

// Every activation of a forward pass, allocated once. Views are of the first num_tokens rows.
class Workspace {
 public:
  static absl::StatusOr<Workspace> Create(const ModelConfig& config, const ModelLimits& limits,
                                          Backend& backend);

  // What Create would allocate.
  static int64_t PlannedBytes(const ModelConfig& config, const ModelLimits& limits, DType dtype);

  TensorView residual(int num_tokens) const { return residual_.view().Rows(0, num_tokens); }
  TensorView normed(int num_tokens) const { return normed_.view().Rows(0, num_tokens); }
  TensorView delta(int num_tokens) const { return delta_.view().Rows(0, num_tokens); }
  TensorView cos_sin(int num_tokens) const { return cos_sin_.view().Rows(0, num_tokens); }
  TensorView q(int num_tokens) const { return q_.view().Rows(0, num_tokens); }
  TensorView attended(int num_tokens) const { return attended_.view().Rows(0, num_tokens); }
  TensorView gate(int num_tokens) const { return gate_.view().Rows(0, num_tokens); }
  TensorView up(int num_tokens) const { return up_.view().Rows(0, num_tokens); }
  // Component heads are not equally many in every layer: dense [num_tokens, heads * head_dim].
  TensorView k(int num_tokens, int heads) const { return Heads(k_, num_tokens, heads); }
  TensorView v(int num_tokens, int heads) const { return Heads(v_, num_tokens, heads); }
  TensorView last_hidden(int rows) const { return last_hidden_.view().Rows(0, rows); }
  TensorView logits(int rows) const { return logits_.view().Rows(0, rows); }

  int64_t num_bytes() const { return num_bytes_; }

 private:
  // Calls visit(member, shape) for every tensor.
  template <typename Visit>
  static void ForEachTensor(const ModelConfig& config, const ModelLimits& limits, Visit visit);

  TensorView Heads(const Tensor& flat, int num_tokens, int heads) const {
    const int64_t width = int64_t{heads} * head_dim_;
    return flat.view()
        .Reshape({flat.view().num_elements()})
        .Rows(0, num_tokens * width)
        .Reshape({num_tokens, width});
  }

  int head_dim_ = 0;
  int64_t num_bytes_ = 0;
  Tensor residual_;     // [max_tokens, hidden]
  Tensor normed_;       // [max_tokens, hidden]
  Tensor delta_;        // [max_tokens, hidden] what a block adds to the residual
  Tensor cos_sin_;      // [max_tokens, head_dim]
  Tensor q_;            // [max_tokens, q_heads * head_dim]
  Tensor attended_;     // [max_tokens, q_heads * head_dim]
  Tensor gate_, up_;    // [max_tokens, ffn]
  Tensor k_, v_;        // [max_tokens, kv_heads * head_dim], room for any layer's heads
  Tensor last_hidden_;  // [max_logit_rows, hidden]
  Tensor logits_;       // [max_logit_rows, vocab]
};

}  // namespace mea
