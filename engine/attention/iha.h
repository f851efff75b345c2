#pragma once

#include "engine/attention/variant.h"

namespace mea {

// Interleaved Head Attention (arXiv 2602.21371): each head has P pseudo heads, mixed of all heads,
// which stand at P virtual positions for every token. The cache holds physical heads alone; pseudo
// queries are mixed before attention, pseudo keys and values within it, and the P * h outputs
// collapse to h after it. Layers without mixing tensors are ordinary ones.
class IhaAttention final : public AttentionVariant {
 public:
  void Attend(const LayerWeights& layer, AttentionStep& step) const override {
    if (layer.collapse.empty()) return AttentionVariant::Attend(layer, step);
    const auto num_tokens = static_cast<int>(step.queries.q.shape[0]);
    const int64_t h = step.queries.q.shape[1];
    const int64_t d = step.queries.q.shape[2];
    const int64_t pseudo_heads = step.turns.shape[0];  // P
    const TensorView angles = step.workspace.pseudo_cos_sin(num_tokens);
    InterleavedAttentionArgs read{.paged = step.read,
                                  .pseudo_heads = static_cast<int>(pseudo_heads),
                                  .rotations = step.turns};
    read.paged.q = step.workspace.pseudo_queries(num_tokens);
    read.paged.out = step.workspace.pseudo_attended(num_tokens);
    read.paged.mix = layer.mix;

    // Pseudo heads lie outermost, so that those of one virtual position are rows of h heads.
    step.backend.MixHeads({.x = step.queries.q, .mix = layer.query_mix, .out = read.paged.q});
    step.queries.q = read.paged.q.Reshape({num_tokens * pseudo_heads, h, d});
    step.queries.cos_sin = angles;
    step.backend.PrepareQueries(step.queries);
    // Token n's keys are cached at the position of its pseudo head 0, n * P.
    step.append.cos_sin = angles.Reshape({num_tokens, pseudo_heads * d}).Columns(0, d);
    step.backend.AppendKv(step.append);
    step.backend.InterleavedAttention(read);
    step.backend.MixHeads({.x = read.paged.out, .mix = layer.collapse, .out = step.read.out});
  }
};

}  // namespace mea
