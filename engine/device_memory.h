#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "engine/model/split_layers.h"
#include "kernels/backend.h"
#include "kvcache/kv_layout.h"

namespace mea {

// Which layers each back end computes, before anything is loaded: all of them where there is one,
// else by the share of its device's memory that an engine may take and that is free.
absl::StatusOr<std::vector<StagePlace>> PlaceStages(
    const StageCosts& costs, const std::vector<std::unique_ptr<Backend>>& backends,
    double gpu_memory_utilization);

// The cache that the devices of a loaded model have room for: the rest of their shares after
// weights, workspace and scratch, less the memory of future graphs. RESOURCE_EXHAUSTED if one has
// none.
absl::StatusOr<int64_t> DeviceKvCacheBytes(const Model& model, const KvLayout& layout,
                                           double gpu_memory_utilization);

}  // namespace mea
