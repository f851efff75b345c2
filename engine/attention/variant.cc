#include "engine/attention/variant.h"

namespace mea {

AttentionKind AttentionVariant::KindOf(const ModelConfig& config, int layer) const {
  const LayerHeads& heads = config.layer_heads[layer];
  return {.q_heads = config.q_heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .window = config.layer_windows[layer],
          .is_composed = heads.key_mix || heads.value_mix};
}

OpCost AttentionVariant::Cost(const AttentionLoad& load) const {
  const AttentionShape shape = AttentionShapeOf(load.config, load.layer, load.dtypes.kv);
  return PrepareQueriesCost(load.num_tokens, load.config.q_heads, load.config.head_dim,
                            load.dtypes.compute) +
         PagedAttentionCost(shape, load.sequences, load.dtypes.compute);
}

std::string AttentionVariant::DescribeLayer(const ModelConfig& config, int layer) const {
  const LayerHeads& heads = config.layer_heads[layer];
  if (heads.key_mix && heads.value_mix) return "keys and values";
  if (heads.key_mix) return "keys";
  return heads.value_mix ? "values" : "none";
}

const AttentionVariant& AttentionOf(const ModelConfig& config) {
  static const AttentionVariant plain;
  return config.attention ? *config.attention : plain;
}

AttentionShape AttentionShapeOf(const ModelConfig& config, int layer, KvDTypes kv_dtype) {
  const LayerHeads& heads = config.layer_heads[layer];
  return {.kv = config.LayerKvSpec(layer, kv_dtype),
          .q_heads = config.q_heads,
          .kv_heads = config.kv_heads,
          .composed = heads.key_mix || heads.value_mix,
          .window = config.layer_windows[layer]};
}

}  // namespace mea
