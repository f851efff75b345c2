#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Knocking-Heads Attention (arXiv 2510.23052): matrices [d, d] that all heads share stand between
// the projections and attention. Linear ones were folded into the projections when the weights were
// loaded, which leaves plain attention. The MLP for values runs before they are cached:
//   V~_i = 2 * ((V_i W_up) * sigmoid(V_i W_gate)) W_down
class KhaAttention final : public AttentionVariant {
 protected:
  void BeforeCache(const LayerWeights& layer, AttentionStep& step) const override {
    if (layer.knock_v_down.empty()) return;
    const int64_t num_tokens = step.append.v.shape[0];
    const int64_t heads = step.append.v.shape[1];
    const int64_t d = step.append.v.shape[2];
    const TensorView values = step.append.v.Reshape({num_tokens * heads, d});
    const TensorView gate = step.workspace.knock_gate(static_cast<int>(num_tokens));
    const TensorView up = step.workspace.knock_up(static_cast<int>(num_tokens));
    const Projection projections[] = {{.w = layer.knock_v_gate, .bias = {}, .out = gate},
                                      {.w = layer.knock_v_up, .bias = {}, .out = up}};
    step.backend.MatMul(values, projections);
    step.backend.SigmoidGate(gate, up, /*scale=*/2.0f, gate);
    step.backend.MatMul(gate, layer.knock_v_down, {}, values);
  }
};

}  // namespace mea
