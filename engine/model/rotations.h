#pragma once

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "kernels/backend.h"

namespace mea {

// How the layers of a model rotate queries and keys: all alike, or some of them otherwise.
// Immutable.
class Rotations {
 public:
  static absl::StatusOr<Rotations> Create(const ModelConfig& config, Backend& backend);
  // What Create allocates.
  static int64_t PlannedBytes(const ModelConfig& config);

  // The angles of positions, for `out`, of most layers and of those of ModelConfig::other_rope.
  ComputeRopeArgs rope(TensorView positions, TensorView out) const {
    return Args(rope_, positions, out);
  }
  ComputeRopeArgs other_rope(TensorView positions, TensorView out) const {
    return Args(other_, positions, out);
  }
  TensorView inv_freq() const { return rope_.inv_freq.view(); }
  int64_t num_bytes() const { return rope_.inv_freq.num_bytes() + other_.inv_freq.num_bytes(); }

 private:
  struct Rope {
    Tensor inv_freq;  // [head_dim / 2] f64
    double attention_factor = 1.0;
  };
  static absl::StatusOr<Rope> Make(const RopeConfig& rope, const ModelConfig& config,
                                   Backend& backend);
  static ComputeRopeArgs Args(const Rope& rope, TensorView positions, TensorView out) {
    return {.positions = positions,
            .inv_freq = rope.inv_freq.view(),
            .attention_factor = rope.attention_factor,
            .out = out};
  }

  Rope rope_, other_;
};

}  // namespace mea
