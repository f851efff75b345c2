#include "engine/convert/layer_copy.h"

#include "engine/storage/convert_dtype.h"
#include "kernels/status_macros.h"

namespace mea::convert {

absl::Status LayerCopy::Replace(TensorView LayerWeights::*view, const Matrix& matrix) {
  FloatMatrix narrow(matrix.rows, matrix.cols);
  std::copy(matrix.values.begin(), matrix.values.end(), narrow.values.begin());
  return Replace(view, narrow);
}

absl::Status LayerCopy::Replace(TensorView LayerWeights::*view, const FloatMatrix& matrix) {
  TensorView& now = weights_.*view;
  if (matrix.empty() || now.empty()) return absl::OkStatus();
  MEA_CHECK(std::ssize(matrix.values) == now.num_elements());
  const std::span<const int64_t> shape(now.shape.data(), now.rank);
  MEA_ASSIGN_OR_RETURN(Tensor copy, Tensor::AllocateHost(shape, now.dtype));
  ConvertDType(matrix.values.data(), DType::kF32, copy.view().data, now.dtype, now.num_elements());
  now = copy.view();
  storage_.push_back(std::move(copy));
  return absl::OkStatus();
}

absl::Status LayerCopy::WriteOutHeads(const Checkpoint& plain, int layer,
                                      const LayerComposition& composition,
                                      const HealedWeights& healed) {
  MEA_ASSIGN_OR_RETURN(LayerMatrices w, ReadLayerMatrices(plain, layer));
  healed.ApplyTo(w);
  const int d = plain.config.head_dim;
  if (composition.keys != nullptr) {
    MEA_RETURN_IF_ERROR(Replace(&LayerWeights::k_proj, ExpandKeys(w.k, d, *composition.keys)));
    MEA_RETURN_IF_ERROR(Replace(&LayerWeights::k_bias, ExpandKeys(w.k_bias, d, *composition.keys)));
  } else {
    MEA_RETURN_IF_ERROR(Replace(&LayerWeights::k_proj, healed.k));
  }
  if (composition.values != nullptr) {
    MEA_RETURN_IF_ERROR(Replace(&LayerWeights::v_proj, ExpandValues(w.v, d, *composition.values)));
    MEA_RETURN_IF_ERROR(
        Replace(&LayerWeights::v_bias, ExpandValues(w.v_bias, d, *composition.values)));
  } else {
    MEA_RETURN_IF_ERROR(Replace(&LayerWeights::v_proj, healed.v));
  }
  return Replace(&LayerWeights::q_proj, healed.q);
}

}  // namespace mea::convert
