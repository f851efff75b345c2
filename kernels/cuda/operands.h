#pragma once

#include "kernels/tensor.h"

namespace mea::cuda {

// The address of an operand on the device; null if it is absent.
template <typename T>
T* At(TensorView view) {
  if (view.empty()) return nullptr;
  MEA_CHECK(view.device == Device::kCuda);
  return view.as<T>();
}

// Whether the heads in each row of [n, heads, d] are adjacent.
inline bool HasDenseRows(TensorView view) {
  return view.stride[1] == view.shape[2] && view.stride[2] == 1;
}

}  // namespace mea::cuda
