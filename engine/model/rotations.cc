#include "engine/model/rotations.h"

#include <utility>

#include "engine/weights/place_tensors.h"
#include "kernels/status_macros.h"

namespace mea {

absl::StatusOr<Rotations::Rope> Rotations::Make(const RopeConfig& rope, const ModelConfig& config,
                                                Backend& backend) {
  const RopeFrequencies frequencies =
      ComputeRopeFrequencies(rope, config.head_dim, config.max_position);
  MEA_ASSIGN_OR_RETURN(Tensor inv_freq,
                       Place(TensorView::Of(std::span(frequencies.inv_freq)), backend));
  return Rope{.inv_freq = std::move(inv_freq), .attention_factor = frequencies.attention_factor};
}

absl::StatusOr<Rotations> Rotations::Create(const ModelConfig& config, Backend& backend) {
  Rotations rotations;
  MEA_ASSIGN_OR_RETURN(rotations.rope_, Make(config.rope, config, backend));
  if (config.other_rope) {
    MEA_ASSIGN_OR_RETURN(rotations.other_, Make(*config.other_rope, config, backend));
  }
  return rotations;
}

int64_t Rotations::PlannedBytes(const ModelConfig& config) {
  return config.head_dim / 2 * DTypeSize(DType::kF64) * (config.other_rope ? 2 : 1);
}

}  // namespace mea
