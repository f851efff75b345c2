#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/weights/weights.h"
#include "kernels/backend.h"

namespace mea {

// The biases of key projections for a cache of integers, which stores keys without them: a bias may
// be a hundred times the rest of a key, and the largest element of a key decides its scale.
// Attention adds the bias back (KeyBias), composed as the heads are: the bias of virtual head g is
// sum_c W[c, g] b_c.
class KeyBiases {
 public:
  static absl::StatusOr<KeyBiases> Create(const ModelConfig& config, const ModelWeights& weights,
                                          Backend& backend);
  // Whether a cache of integers is to hold the model's keys without their biases.
  static bool AreApart(const ModelConfig& config);
  // What Create allocates.
  static int64_t PlannedBytes(const ModelConfig& config, Device device, DType wide);

  // Absent if the cache holds the whole key: under QK-norm, for pseudo heads, in models whose
  // layers do not all rotate alike, or without a bias.
  KeyBias layer(int index) const;
  int64_t num_bytes() const;

 private:
  Tensor heads_;             // [layers, kv_heads * head_dim] f32
  Tensor strides_;           // of KeyBias, as is the next
  Tensor offsets_;           //
  std::vector<bool> apart_;  // [layers]
  int kv_heads_ = 0;
};

}  // namespace mea
