#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/convert/convert.h"
#include "engine/convert/output.h"

namespace mea::convert {

// How many heads each layer may keep according to the options, and their bytes. Refers to the
// model's configuration and the options; measures nothing.
class HeadPlan {
 public:
  HeadPlan(const ModelConfig& config, const ConvertOptions& options)
      : config_(config), options_(options) {}

  bool IsChosen(int layer) const;       // by options.layers
  std::vector<int> Candidates() const;  // numbers of heads below h to try
  LayerHeads Of(int keys, int values) const;
  int64_t BytesPerToken(const LayerPlan& plan) const;

  // What options.key_heads and options.value_heads say.
  LayerPlan Given() const;
  // The least sum of measured divergences within options.ratio of the bytes. The profile has every
  // candidate of every chosen layer. INVALID_ARGUMENT if even the fewest heads take more.
  absl::StatusOr<LayerPlan> WithinBudget(const std::vector<ProfileEntry>& profile) const;

 private:
  const ModelConfig& config_;
  const ConvertOptions& options_;
};

}  // namespace mea::convert
