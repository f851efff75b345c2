#pragma once

#include "absl/status/statusor.h"
#include "engine/attention/variant.h"

namespace mea {

class FieldReader;

// Multi-head Explicit Attention (arXiv 2601.19611): the cache holds component heads, attention sees
// their head-level linear composition, and each head's output may be RMS-normalised before o_proj.
// Layers without W_lc are plain layers of a mixed model. How many heads are cached, and the head
// norm, are the configuration's own: everything counts with them.
class MeaAttention final : public AttentionVariant {
 public:
  // Of head_composition. The first refusal.
  static absl::StatusOr<std::shared_ptr<const AttentionVariant>> Read(FieldReader& in,
                                                                      ModelConfig& config);

  void SettleLayers(const SafeTensors& tensors, ModelConfig& config) const override;
  void ListTensors(const ModelConfig& config, int layer, const std::string& prefix,
                   LayerWeights& weights, TensorList& list) const override;

 protected:
  void BeforeCache(const LayerWeights& layer, AttentionStep& step) const override;
  void AtRead(const LayerWeights& layer, AttentionStep& step) const override;
};

}  // namespace mea
