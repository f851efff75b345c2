#pragma once

#include <vector>

#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"
#include "kernels/tensor.h"

namespace mea::reference {

// Of a matrix of weights (kernels/int8_rows.h).
inline double LoadInt8(const TensorView& view, int64_t offset) {
  const auto* const elements = static_cast<const int8_t*>(view.data);
  const int8_t* const row = elements + offset / view.stride[0] * view.stride[0];
  return double{Int8Scale(row, view.shape[1])} * elements[offset];
}

// Element at a pointer offset, widened. Slow and uniform: the reference reads every format in the
// same way.
inline double Load(const TensorView& view, int64_t offset) {
  switch (view.dtype) {
    case DType::kF64:
      return static_cast<const double*>(view.data)[offset];
    case DType::kF32:
      return static_cast<const float*>(view.data)[offset];
    case DType::kBf16:
      return ToFloat(static_cast<const Bf16*>(view.data)[offset]);
    case DType::kF16:
      return ToFloat(static_cast<const F16*>(view.data)[offset]);
    case DType::kI32:
      return static_cast<const int32_t*>(view.data)[offset];
    case DType::kI8:
      return LoadInt8(view, offset);
    case DType::kI4:
      break;  // by rows: LoadRow
  }
  MEA_CHECK(false);
}

// Rounds to the view's format; halves only ever enter as weights.
inline void Store(const TensorView& view, int64_t offset, double value) {
  switch (view.dtype) {
    case DType::kF64:
      static_cast<double*>(view.data)[offset] = value;
      return;
    case DType::kF32:
      static_cast<float*>(view.data)[offset] = static_cast<float>(value);
      return;
    case DType::kBf16:
      static_cast<Bf16*>(view.data)[offset] = ToBf16(static_cast<float>(value));
      return;
    case DType::kF16:
    case DType::kI32:
    case DType::kI8:
    case DType::kI4:
      break;
  }
  MEA_CHECK(false);
}

inline int64_t Offset(const TensorView& view, int64_t i) { return i * view.stride[0]; }
inline int64_t Offset(const TensorView& view, int64_t i, int64_t j) {
  return i * view.stride[0] + j * view.stride[1];
}
inline int64_t Offset(const TensorView& view, int64_t i, int64_t j, int64_t k) {
  return Offset(view, i, j) + k * view.stride[2];
}

// `count` neighbours as doubles; of kI4 a whole row.
inline std::vector<double> LoadRow(const TensorView& view, int64_t offset, int64_t count) {
  std::vector<double> row(count);
  if (view.dtype == DType::kI4) {
    WidenInt4Row(view, offset / view.stride[0], row.data());
    return row;
  }
  for (int64_t i = 0; i < count; ++i) row[i] = Load(view, offset + i);
  return row;
}

}  // namespace mea::reference
