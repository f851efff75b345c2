#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/tensor.h"

// What the checks of the ops have in common.

namespace mea {

// Also that the last dimension is dense: every op walks it with pointers.
bool HasShape(const TensorView& view, std::initializer_list<int64_t> shape);
// A format that matrices of weights may be stored in.
bool IsMatrixStorage(DType dtype);
// F32 and of this shape, or absent: the caller asks first where one is required.
void CheckParameter(const TensorView& view, std::initializer_list<int64_t> shape);
void CheckIndices(const TensorView& view, int64_t count);

}  // namespace mea
