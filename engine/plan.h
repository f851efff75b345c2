#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/workspace.h"

namespace mea {

struct PlanOptions {
  int64_t memory_bytes = 0;  // for weights, workspace and cache together
  Device device = Device::kCpu;
  std::string weight_dtype = "auto";
  std::string kv_dtype = "bf16";
  int context = 0;  // tokens per sequence; 0 = the model's
  int page_size = 32;
  ModelLimits limits;
};

// What a cache of some layout could hold.
struct CachePlan {
  int64_t bytes_per_token = 0;
  int64_t num_tokens = 0;     // that fit, in whole pages
  int64_t num_sequences = 0;  // of `context` tokens that fit
};

// The memory of a model that is not loaded: the checkpoint as it is beside the same model with
// every virtual head stored.
struct Plan {
  int64_t weights_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t cache_bytes = 0;  // what is left for the cache; 0 where the rest takes all
  int context = 0;
  CachePlan physical;
  CachePlan uncompressed;
};

// INVALID_ARGUMENT for an option out of range.
absl::StatusOr<Plan> PlanMemory(const Checkpoint& checkpoint, const PlanOptions& options);

}  // namespace mea
