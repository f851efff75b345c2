#include "kernels/matrix.h"

#include <array>

#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"

namespace mea {

bool IsRounded(DType dtype) { return dtype == DType::kI8 || dtype == DType::kI4; }

int64_t MatrixBytes(int64_t rows, int64_t k, DType dtype) {
  if (dtype == DType::kI8) return rows * Int8RowStride(k);
  if (dtype == DType::kI4) return rows * Int4RowStride(k);
  return rows * k * DTypeSize(dtype);
}

absl::StatusOr<Tensor> AllocateMatrix(int64_t rows, int64_t k, DType dtype) {
  if (dtype == DType::kI8) return AllocateInt8Rows(rows, k);
  if (dtype == DType::kI4) return AllocateInt4Rows(rows, k);
  const std::array<int64_t, 2> shape = {rows, k};
  return Tensor::AllocateHost(shape, dtype);
}

void RoundRow(const float* from, const TensorView& matrix, int64_t i) {
  const int64_t k = matrix.shape[1];
  if (matrix.dtype == DType::kI8) return QuantizeRow(from, k, matrix.row<int8_t>(i));
  QuantizeInt4Row(from, k, matrix.int4->group, matrix.row<Int4Pair>(i));
}

}  // namespace mea
