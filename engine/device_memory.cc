#include "engine/device_memory.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// What an engine may still take of a device's memory.
int64_t FreeShare(const DeviceMemory& memory, double utilization) {
  return MemoryShare(memory.total_bytes, utilization) - (memory.total_bytes - memory.free_bytes);
}

}  // namespace

absl::StatusOr<std::vector<StagePlace>> PlaceStages(
    const StageCosts& costs, const std::vector<std::unique_ptr<Backend>>& backends,
    double gpu_memory_utilization) {
  std::vector<int64_t> free_bytes;
  for (const auto& backend : backends) {
    free_bytes.push_back(
        FreeShare(backend->memory().value_or(DeviceMemory{}), gpu_memory_utilization));
  }
  MEA_ASSIGN_OR_RETURN(const std::vector<LayerRange> ranges, SplitLayers(costs, free_bytes));
  std::vector<StagePlace> places;
  for (size_t i = 0; i < ranges.size(); ++i) {
    places.push_back({.backend = backends[i].get(), .layers = ranges[i]});
  }
  return places;
}

absl::StatusOr<int64_t> DeviceKvCacheBytes(const Model& model, const KvLayout& layout,
                                           double gpu_memory_utilization) {
  int64_t num_pages = std::numeric_limits<int64_t>::max();
  for (int rank = 0; rank < layout.num_ranks(); ++rank) {
    const DeviceMemory memory = model.stages()[rank]->backend().memory().value();
    const int64_t graphs = model.backend_bytes()[rank].graphs;
    const int64_t left = FreeShare(memory, gpu_memory_utilization) - graphs;
    if (left < layout.RankPageBytes(rank)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("--gpu-memory-utilization ", gpu_memory_utilization, " of ",
                       HumanBytes(memory.total_bytes), " leaves none for the cache: ",
                       HumanBytes(memory.total_bytes - memory.free_bytes + graphs), " is taken"));
    }
    num_pages = std::min(num_pages, left / layout.RankPageBytes(rank));
  }
  return num_pages * layout.PageBytes();
}

}  // namespace mea
