#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace mea {

// Matrices of weights in every format that they are kept in. Those with fewer than 16 bits are
// rounded row by row: kernels/int8_rows.h, int4_rows.h.

bool IsRounded(DType dtype);

int64_t MatrixBytes(int64_t rows, int64_t k, DType dtype);

// Host memory for [rows, k]; RESOURCE_EXHAUSTED names the bytes when there is not enough.
absl::StatusOr<Tensor> AllocateMatrix(int64_t rows, int64_t k, DType dtype);

// Makes k finite floats the i-th row of a matrix whose format is rounded.
void RoundRow(const float* from, const TensorView& matrix, int64_t i);

}  // namespace mea
