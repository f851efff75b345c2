#include "engine/config/config.h"

#include <algorithm>

namespace mea {
int ModelConfig::num_sparse_layers() const {
  return static_cast<int>(std::count(sparse_layers.begin(), sparse_layers.end(), true));
}

bool ModelConfig::compressed() const {
  return std::any_of(layer_heads.begin(), layer_heads.end(), [this](const LayerHeads& heads) {
    return heads.key_heads < kv_heads || heads.value_heads < kv_heads;
  });
}

KvSpec ModelConfig::LayerKvSpec(int layer, KvDTypes kv_dtype) const {
  MEA_CHECK(layer >= 0 && layer < static_cast<int>(layer_heads.size()));
  const LayerHeads& heads = layer_heads[layer];
  return KvSpec{.key_heads = heads.key_heads,
                .value_heads = heads.value_heads,
                .head_dim = head_dim,
                .dtype = kv_dtype,
                .key_norm_heads = layers.qk_norm && heads.key_mix ? kv_heads : 0};
}

int LongestContext(const ModelConfig& config) {
  if (config.rope.kind != RopeKind::kYarn) return config.max_position;
  constexpr double kMost = 1 << 30;
  const double stretched = config.rope.factor * config.rope.original_max_position;
  return std::max(config.max_position, static_cast<int>(std::min(stretched, kMost)));
}

}  // namespace mea
