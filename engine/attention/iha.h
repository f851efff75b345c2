#pragma once

#include "absl/status/statusor.h"
#include "engine/attention/variant.h"

namespace mea {

class FieldReader;

// Interleaved Head Attention (arXiv 2602.21371): each head has P pseudo heads, mixed of all heads,
// which stand at P virtual positions for every token. The cache holds component heads alone; pseudo
// queries are mixed before attention, pseudo keys and values within it, and the P * h outputs
// collapse to h after it. Layers with a window are of this kind; the others are ordinary ones.
//
// LayerWeights::mix is [h, h * P] here: pseudo head p of head j is sum_m mix[m, j * P + p] of head
// m. Queries and outputs lie by pseudo head first.
class IhaAttention final : public AttentionVariant {
 public:
  // What LayerWeights::variant holds: [h, P * h], column p * h + j; and R transposed, [P * h, h],
  // row p * h + j.
  enum Weight { kQueryMix, kCollapse, kNumWeights };

  explicit IhaAttention(int pseudo_heads) : pseudo_heads_(pseudo_heads) {}
  // Of head_composition. The first refusal.
  static absl::StatusOr<std::shared_ptr<const AttentionVariant>> Read(FieldReader& in,
                                                                      ModelConfig& config);

  bool is_interleaved(const ModelConfig& config, int layer) const {
    return config.layer_windows[layer] > 0;
  }

  void ListTensors(const ModelConfig& config, int layer, const std::string& prefix,
                   LayerWeights& weights, TensorList& list) const override;
  std::vector<RowBuffer> Buffers(const ModelConfig& config) const override;
  absl::StatusOr<std::vector<Tensor>> MakeConstants(const ModelConfig& config, TensorView inv_freq,
                                                    Backend& backend) const override;
  int64_t PlannedConstantBytes(const ModelConfig& config, DType wide) const override;
  AttentionKind KindOf(const ModelConfig& config, int layer) const override;
  bool can_add_key_bias(const ModelConfig& config, int layer) const override {
    return !is_interleaved(config, layer);
  }
  OpCost Cost(const AttentionLoad& load) const override;
  std::vector<std::pair<std::string, std::string>> Describe(const ModelConfig& config,
                                                            KvDTypes kv_dtype) const override;
  std::string DescribeLayer(const ModelConfig& config, int layer) const override;
  void BeginStep(Backend& backend, const ComputeRopeArgs& rope,
                 std::span<const TensorView> buffers) const override;
  void Attend(const LayerWeights& layer, AttentionStep& step) const override;

 private:
  const int pseudo_heads_;  // P
};

}  // namespace mea
