#include "engine/model/cache_layout.h"

namespace mea {

KvLayout MakeKvLayout(const ModelConfig& config, KvDTypes dtype, const ModelLimits& limits) {
  KvLayout layout{.kv_heads = config.kv_heads,
                  .page_size = limits.page_size,
                  .max_batch_tokens = limits.max_batch_tokens};
  for (int i = 0; i < config.num_layers; ++i) {
    layout.layers.push_back(config.LayerKvSpec(i, dtype));
  }
  layout.GroupByWindow(config.layer_windows);
  return layout;
}

int NumKvGroups(const ModelConfig& config) {
  return MakeKvLayout(config, DType::kBf16, {}).num_groups();
}

void PutOnRanks(std::span<const LayerRange> ranges, KvLayout& layout) {
  layout.layer_ranks.clear();
  if (ranges.size() == 1) return;
  for (int rank = 0; rank < std::ssize(ranges); ++rank) {
    layout.layer_ranks.resize(ranges[rank].end, rank);
  }
}

}  // namespace mea
