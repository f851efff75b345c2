#pragma once

#include <memory>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// One layer's attention in one step, between its projections and o_proj: the ops' arguments as
// plain attention would have them.
struct AttentionStep {
  Backend& backend;
  const Workspace& workspace;
  TensorView turns;  // [P, head_dim] wide: angles of the positions 0..P-1 (IHA)
  PrepareQueriesArgs queries;
  AppendKvArgs append;
  PagedAttentionArgs read;
};

// How one family of attention departs from plain attention over the cached heads. Each hook
// completes or changes the arguments of the op that is about to be called; a hook not overridden
// changes nothing. Stateless: everything it needs is in the layer's weights.
class AttentionVariant {
 public:
  virtual ~AttentionVariant() = default;
  // From projected q, k and v to what o_proj takes, step.read.out.
  virtual void Attend(const LayerWeights& layer, AttentionStep& step) const {
    BeforeCache(layer, step);
    step.backend.PrepareAndAppend({.queries = step.queries, .kv = step.append});
    AtRead(layer, step);
    step.backend.PagedAttention(step.read);
  }

 protected:
  // What new keys and values need on their way into the cache.
  virtual void BeforeCache(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
  // How cached (physical) heads become attended (virtual) heads, and what happens to their outputs.
  virtual void AtRead(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
};

std::unique_ptr<AttentionVariant> CreateAttentionVariant(const ModelConfig& config);

}  // namespace mea
