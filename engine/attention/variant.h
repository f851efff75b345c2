#pragma once

#include <memory>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// One layer's attention in one step, between its projections and o_proj: the arguments of the ops,
// set for plain attention.
struct AttentionStep {
  Backend& backend;
  const Workspace& workspace;
  TensorView turns;  // [P, head_dim] wide: angles of the positions 0..P-1 (IHA)
  PrepareQueriesArgs queries;
  AppendKvArgs append;
  PagedAttentionArgs read;
};

// How one kind of attention differs from plain attention over the cached heads. Each hook completes
// or changes the arguments of the op that is called next; by default it changes nothing. Stateless:
// everything that it needs is in the layer's weights.
class AttentionVariant {
 public:
  virtual ~AttentionVariant() = default;
  // From projected q, k and v to the input of o_proj, step.read.out.
  virtual void Attend(const LayerWeights& layer, AttentionStep& step) const {
    BeforeCache(layer, step);
    step.backend.PrepareAndAppend(step.queries, step.append);
    AtRead(layer, step);
    step.backend.PagedAttention(step.read);
  }

 protected:
  // Changes new keys and values on their way into the cache.
  virtual void BeforeCache(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
  // Says how cached (physical) heads become attended (virtual) heads, and what happens to their
  // outputs.
  virtual void AtRead(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
};

std::unique_ptr<AttentionVariant> CreateAttentionVariant(const ModelConfig& config);

}  // namespace mea
