#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/model/split_layers.h"
#include "engine/model/workspace.h"

namespace mea {

// A device to plan for, or several of its kind; it need not exist here.
struct PlannedDevice {
  Device device = Device::kCpu;
  std::vector<int> gpus = {0};   // their numbers, as many as there are devices
  std::string name;              // "NVIDIA H200"; empty if there is none to ask
  int64_t total_bytes = 0;       // of the memory of each; 0 if there is none to ask
  BackendPlanner backend_bytes;  // absent: nothing
};
// As ParseDevice reads it; "auto": the GPU if there is one. For CUDA: the first of the machine's
// own devices that are named, else one with the compute capability and the multiprocessors of an
// H100 or H200.
absl::StatusOr<PlannedDevice> DescribePlannedDevice(const std::string& device);

struct PlanOptions {
  int64_t memory_bytes = 0;  // for everything together, an equal part of it on each device
  PlannedDevice device;
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  int context = 0;  // tokens per sequence, prompt and output together; 0 = the model's
  ModelLimits limits{.page_size = 32};
};

// What a cache of one layout could hold.
struct CachePlan {
  int64_t bytes_per_token = 0;
  int64_t num_tokens = 0;     // that fit, in whole pages
  int64_t num_sequences = 0;  // of `context` tokens that fit
};

// The memory of an engine that is not started, for the checkpoint as it is and for the same model
// with every virtual head stored in BF16.
struct Plan {
  int64_t weights_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t scratch_bytes = 0;        // of the back end
  int64_t graphs_bytes = 0;         // of decode steps, an estimate
  int64_t cache_bytes = 0;          // what is left for the cache; 0 if nothing is
  int64_t default_cache_bytes = 0;  // what an engine takes of that by default
  absl::Status refusal;             // why it would refuse to start, if it would
  std::string missing;              // why scratch and graphs are not counted, or empty
  int context = 0;
  CachePlan physical;
  CachePlan uncompressed;
  CachePlan by_default;              // of default_cache_bytes
  std::vector<DeviceShare> devices;  // where there are several: with the cache that fits
};

// INVALID_ARGUMENT for an option out of range.
absl::StatusOr<Plan> PlanMemory(const Checkpoint& checkpoint, const PlanOptions& options);
// The same for a model with random weights, of which only the configuration exists.
absl::StatusOr<Plan> PlanRandomModel(const ModelConfig& config, const PlanOptions& options);

}  // namespace mea
