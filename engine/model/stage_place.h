#pragma once

#include <vector>

#include "engine/config/config.h"
#include "kernels/backend.h"

namespace mea {

// Layers that follow one another: [begin, end). The embedding goes with the first layer of a model,
// the final norm, the output and the draws with the last.
struct LayerRange {
  int begin = 0;
  int end = 0;

  int size() const { return end - begin; }
  bool has_embedding() const { return begin == 0; }
  bool has_output(const ModelConfig& config) const { return end == config.num_layers; }
  bool operator==(const LayerRange&) const = default;
};

inline LayerRange AllLayers(const ModelConfig& config) { return {0, config.num_layers}; }

// Which layers a back end computes.
struct StagePlace {
  Backend* backend = nullptr;
  LayerRange layers;
};

inline std::vector<StagePlace> OnOneDevice(Backend* backend, const ModelConfig& config) {
  return {{.backend = backend, .layers = AllLayers(config)}};
}

}  // namespace mea
