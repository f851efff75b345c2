#pragma once

#include <memory>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "kernels/backend.h"

namespace mea {

// How one family of attention departs from plain attention over the cached heads. Each hook
// completes the arguments of the op that the forward pass is about to call; a hook not overridden
// changes nothing. Stateless: everything it needs is in the layer's weights.
class AttentionVariant {
 public:
  virtual ~AttentionVariant() = default;
  // What new keys and values need on their way into the cache.
  virtual void BeforeCache(const LayerWeights& /*layer*/, AppendKvArgs& /*args*/) const {}
  // How cached (physical) heads become attended (virtual) heads, and what happens to their outputs.
  virtual void AtRead(const LayerWeights& /*layer*/, PagedAttentionArgs& /*args*/) const {}
};

std::unique_ptr<AttentionVariant> CreateAttentionVariant(const ModelConfig& config);

}  // namespace mea
