#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/compose.h"
#include "engine/convert/layer_weights.h"
#include "engine/weights/weights.h"

namespace mea::convert {

// What composes one layer's heads; null: nothing.
struct LayerComposition {
  const KeyComposition* keys = nullptr;
  const ValueComposition* values = nullptr;
  bool empty() const { return keys == nullptr && values == nullptr; }
};

// The weights of a loaded layer, some of them replaced.
class LayerCopy {
 public:
  explicit LayerCopy(const LayerWeights& original) : weights_(original) {}
  const LayerWeights& weights() const { return weights_; }

  // Rounded to the dtype that was there; empty: stays.
  absl::Status Replace(TensorView LayerWeights::*view, const Matrix& matrix);
  absl::Status Replace(TensorView LayerWeights::*view, const FloatMatrix& matrix);

  // Composed heads as the plain layer that computes the same: queries as they are, keys and values
  // of all virtual heads. `healed` has the heads before they are composed.
  absl::Status WriteOutHeads(const Checkpoint& plain, int layer,
                             const LayerComposition& composition, const HealedWeights& healed);

 private:
  LayerWeights weights_;
  std::vector<Tensor> storage_;
};

}  // namespace mea::convert
