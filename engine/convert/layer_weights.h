#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/compose.h"
#include "engine/convert/matrix.h"

namespace mea::convert {

// The weights of one layer that a conversion changes, widened. d = head_dim, H = q_heads, h =
// kv_heads; once composed, k and v have h' heads each.
struct LayerMatrices {
  Matrix q;                            // [H * d, hidden]
  Matrix k;                            // [h * d, hidden]
  Matrix v;                            // [h * d, hidden]
  Matrix o;                            // [hidden, H * d]
  Matrix q_bias, k_bias, v_bias;       // [rows, 1], or empty
  std::vector<double> q_norm, k_norm;  // [d], or empty
  Matrix k_hlc, v_hlc;                 // [h', h], or empty: not composed
  Matrix gate, up, down;               // of the feed-forward network, where healed
};

// What healing makes of a layer's matrices, of a plain model whose heads are all written out;
// empty: as they were.
struct HealedWeights {
  FloatMatrix q, k, v, o;
  FloatMatrix gate, up, down;
  bool empty() const { return o.empty(); }
  void ApplyTo(LayerMatrices& weights) const;
};

// "model.layers.3.self_attn."
std::string AttentionPrefix(int layer);

// Attention's, of a plain or an MEA checkpoint. INVALID_ARGUMENT with one line for a missing or
// misshapen tensor, one whose dtype does not load, or a value that is not finite.
absl::StatusOr<LayerMatrices> ReadLayerMatrices(const Checkpoint& checkpoint, int layer);

// q_norm alone; empty without QK-norm.
absl::StatusOr<std::vector<double>> ReadQueryNorm(const Checkpoint& checkpoint, int layer);

// The same layer with composed heads: components and W_lc instead of the heads; the queries and the
// output projection absorb the free changes. Either composition may be absent (null).
LayerMatrices Compose(const LayerMatrices& plain, int head_dim, const KeyComposition* keys,
                      const ValueComposition* values);

// The plain layer that computes the same: every virtual head written out, queries and output
// unchanged. With it, the cost of a composition can be measured on a plain model.
Matrix ExpandKeys(const Matrix& k, int head_dim, const KeyComposition& keys);
Matrix ExpandValues(const Matrix& v, int head_dim, const ValueComposition& values);

}  // namespace mea::convert
