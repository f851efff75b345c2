#pragma once

#include "absl/status/statusor.h"
#include "engine/attention/variant.h"

namespace mea {

class FieldReader;

// Knocking-Heads Attention (arXiv 2510.23052): matrices [d, d] that all heads share stand between
// the projections and attention. Linear ones are folded into the projections when weights are
// loaded, and what is left is plain attention; the MLP of the values runs before they are cached:
//   V~_i = 2 * ((V_i W_up) * sigmoid(V_i W_gate)) W_down
class KhaAttention final : public AttentionVariant {
 public:
  enum class Knock : uint8_t { kLinear, kMlp };
  // What LayerWeights::variant holds, with the MLP: [d, d] each.
  enum Weight { kUp, kGate, kDown, kNumWeights };

  explicit KhaAttention(Knock knock) : is_mlp_(knock == Knock::kMlp) {}
  // Of head_composition. The first refusal.
  static absl::StatusOr<std::shared_ptr<const AttentionVariant>> Read(FieldReader& in,
                                                                      ModelConfig& config);

  void ListTensors(const ModelConfig& config, int layer, const std::string& prefix,
                   LayerWeights& weights, TensorList& list) const override;
  std::vector<RowBuffer> Buffers(const ModelConfig& config) const override;
  bool has_dense_values() const override { return is_mlp_; }
  std::vector<ProductShape> Products(const ModelConfig& config) const override;
  OpCost Cost(const AttentionLoad& load) const override;
  std::vector<std::pair<std::string, std::string>> Describe(const ModelConfig& config,
                                                            KvDTypes kv_dtype) const override;

 protected:
  void BeforeCache(const LayerWeights& layer, AttentionStep& step) const override;

 private:
  const bool is_mlp_;
};

}  // namespace mea
