#include "engine/model/split_layers.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/backend_limits.h"
#include "engine/model/cache_layout.h"
#include "engine/model/stage.h"
#include "kernels/status_macros.h"

namespace mea {

int64_t StageBytes::NumPages(int64_t device_bytes) const {
  const int64_t room = device_bytes - fixed();
  return room < 0 ? room : room / page;
}

StageCosts::StageCosts(const ModelConfig& config, const ModelLimits& limits, KvDTypes kv_dtype,
                       Device device, WeightPlanner weight_bytes, BackendPlanner backend_bytes)
    : config_(config),
      limits_(limits),
      device_(device),
      layout_(MakeKvLayout(config, kv_dtype, limits)),
      weight_bytes_(std::move(weight_bytes)),
      backend_bytes_(std::move(backend_bytes)) {}

absl::StatusOr<StageBytes> StageCosts::Of(LayerRange layers) const {
  MEA_ASSIGN_OR_RETURN(const int64_t weights, weight_bytes_(layers));
  return Of(layers, weights);
}

absl::StatusOr<StageBytes> StageCosts::Of(LayerRange layers, int64_t weights) const {
  StageBytes bytes{.weights = weights,
                   .workspace = Stage::PlannedWorkspaceBytes(config_, limits_, layers, device_),
                   .page = layout_.PageBytesOf(layers.begin, layers.end)};
  if (backend_bytes_) {
    MEA_ASSIGN_OR_RETURN(bytes.backend,
                         backend_bytes_(MakeBackendLimits(config_, limits_, layers)));
  }
  return bytes;
}

absl::StatusOr<std::vector<LayerRange>> SplitLayers(const StageCosts& costs,
                                                    std::span<const int64_t> device_bytes) {
  const int num_layers = costs.num_layers();
  const int num_devices = static_cast<int>(device_bytes.size());
  if (num_devices > num_layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device names ", num_devices, " devices, more than the model's ", num_layers, " layers"));
  }
  if (num_devices == 1) return std::vector<LayerRange>{{0, num_layers}};
  std::vector<int64_t> layer_weights;
  for (int layer = 0; layer < num_layers; ++layer) {
    MEA_ASSIGN_OR_RETURN(layer_weights.emplace_back(), costs.weight_bytes_({layer, layer + 1}));
  }
  // The most pages when the first devices have the layers [0, end), and where the last of them
  // begins.
  struct Best {
    int64_t pages = std::numeric_limits<int64_t>::min();
    int begin = 0;
  };
  std::vector<std::vector<Best>> best(num_devices, std::vector<Best>(num_layers + 1));
  for (int begin = 0; begin < num_layers; ++begin) {
    int64_t weights = 0;
    for (int end = begin + 1; end <= num_layers; ++end) {
      weights += layer_weights[end - 1];
      MEA_ASSIGN_OR_RETURN(const StageBytes bytes, costs.Of({begin, end}, weights));
      for (int device = 0; device < num_devices; ++device) {
        if ((device == 0) != (begin == 0)) continue;
        int64_t pages = bytes.NumPages(device_bytes[device]);
        if (device > 0) pages = std::min(pages, best[device - 1][begin].pages);
        if (pages > best[device][end].pages) best[device][end] = {pages, begin};
      }
    }
  }
  std::vector<LayerRange> ranges(num_devices);
  for (int device = num_devices - 1, end = num_layers; device >= 0; --device) {
    ranges[device] = {best[device][end].begin, end};
    end = ranges[device].begin;
  }
  return ranges;
}

}  // namespace mea
