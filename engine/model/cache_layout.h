#pragma once

#include <span>

#include "engine/config/config.h"
#include "engine/model/stage_place.h"
#include "engine/model/workspace.h"
#include "kvcache/kv_layout.h"

namespace mea {

// The cache layout of a model of this configuration, for steps within these limits.
KvLayout MakeKvLayout(const ModelConfig& config, KvDTypes dtype, const ModelLimits& limits);
// The number of its groups, the same for keys and values of every type.
int NumKvGroups(const ModelConfig& config);

// Puts the layers of the r-th range on rank r.
void PutOnRanks(std::span<const LayerRange> ranges, KvLayout& layout);

}  // namespace mea
