#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/model/stage_place.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"
#include "kvcache/kv_layout.h"

namespace mea {

// What layers take on their device: whatever the cache holds, and for each of its pages.
struct StageBytes {
  int64_t weights = 0;
  int64_t workspace = 0;
  BackendBytes backend;
  int64_t page = 0;

  int64_t fixed() const { return weights + workspace + backend.scratch + backend.graphs; }
  // The pages for which a device of this much memory has room; negative if not even the rest fits.
  int64_t NumPages(int64_t device_bytes) const;
};

// The memory of a device's back end in addition to its operands (Backend::PlannedBytes).
using BackendPlanner = std::function<absl::StatusOr<BackendBytes>(const BackendLimits&)>;

// ModelWeights::num_bytes of layers and what goes with them.
using WeightPlanner = std::function<absl::StatusOr<int64_t>(LayerRange)>;

// The bytes of the parts of a model on devices of one kind.
class StageCosts {
 public:
  // An absent planner of back ends counts nothing.
  StageCosts(const ModelConfig& config, const ModelLimits& limits, KvDTypes kv_dtype, Device device,
             WeightPlanner weight_bytes, BackendPlanner backend_bytes);

  absl::StatusOr<StageBytes> Of(LayerRange layers) const;
  int num_layers() const { return config_.num_layers; }

 private:
  friend absl::StatusOr<std::vector<LayerRange>> SplitLayers(const StageCosts&,
                                                             std::span<const int64_t>);
  absl::StatusOr<StageBytes> Of(LayerRange layers, int64_t weights) const;

  ModelConfig config_;
  ModelLimits limits_;
  Device device_;
  KvLayout layout_;
  WeightPlanner weight_bytes_;
  BackendPlanner backend_bytes_;
};

// Which layers go to each device, of which the engine may take that many bytes, in order: the cache
// has the most pages then. Every page has a part on every device, so the device with the least room
// decides. INVALID_ARGUMENT if there are more devices than layers.
absl::StatusOr<std::vector<LayerRange>> SplitLayers(const StageCosts& costs,
                                                    std::span<const int64_t> device_bytes);

}  // namespace mea
