#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Knocking-Heads Attention (arXiv 2510.23052): matrices [d, d] that all heads share stand between
// the projections and attention. Linear ones are part of the projections since the weights were
// loaded, and what is left is plain attention; the MLP of the values runs before they are cached:
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
    const Projection projections[] = {{.w = layer.knock_v_gate, .out = gate},
                                      {.w = layer.knock_v_up, .out = up}};
    step.backend.MatMul({.x = values, .projections = projections});
    step.backend.SigmoidGate({.gate = gate, .up = up, .scale = 2.0f, .out = gate});
    step.backend.MatMul(gate, {.w = layer.knock_v_down, .out = values});
  }
};

}  // namespace mea
