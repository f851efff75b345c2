#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Multi-head Explicit Attention (arXiv 2601.19611): the cache holds component heads, attention sees
// their head-level linear composition, and each head's output may be RMS-normalised before o_proj.
// Layers without W_lc are plain layers of a mixed model.
class MeaAttention final : public AttentionVariant {
 protected:
  // With QK-norm the composite keys' norms are cached as one scalar per (token, virtual head):
  // exact, since the norm divides each logit by a number that does not depend on the query.
  void BeforeCache(const LayerWeights& layer, AttentionStep& step) const override {
    step.append.key_mix = layer.mix.key;
  }

  void AtRead(const LayerWeights& layer, AttentionStep& step) const override {
    step.read.mix = layer.mix;
    step.read.head_norm_gain = layer.head_norm_gain;
  }
};

}  // namespace mea
