#include "kernels/ops/operands.h"

#include "kernels/matrix.h"

namespace mea {

bool HasShape(const TensorView& view, std::initializer_list<int64_t> shape) {
  if (view.rank != static_cast<int>(shape.size())) return false;
  int i = 0;
  for (const int64_t extent : shape) {
    if (view.shape[i++] != extent) return false;
  }
  return view.rank == 0 || view.shape[view.rank - 1] <= 1 || view.stride[view.rank - 1] == 1;
}

bool IsMatrixStorage(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16 || IsRounded(dtype);
}

void CheckParameter(const TensorView& view, std::initializer_list<int64_t> shape) {
  if (view.empty()) return;
  MEA_CHECK(view.dtype == DType::kF32);
  MEA_CHECK(HasShape(view, shape));
}

void CheckIndices(const TensorView& view, int64_t count) {
  MEA_CHECK(view.dtype == DType::kI32);
  MEA_CHECK(HasShape(view, {count}));
}

}  // namespace mea
