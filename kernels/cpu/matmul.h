#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cpu {

// A rectangle of out = x w^T + bias. Every element of out is one vector accumulator over all of k,
// summed over its lanes at the end; neither the rectangle nor the number of rows changes a bit.
struct MatMulBlock {
  const float* x;  // [num_rows, k], or as pack_rows leaves it if IsPacked
  int64_t x_stride;
  int num_rows;
  const void* w;  // [num_outs, k]
  DType w_dtype;  // F32, BF16, F16 or I8 (kernels/cpu/int8_matmul.h)
  int64_t w_stride;
  int num_outs;
  int64_t k;
  const float* bias;  // [num_outs] or null
  float* out;         // [num_rows, num_outs]
  int64_t out_stride;
};

// Up to this many rows, weights stream from memory through registers and x is read in place. With
// more, x is packed once for all blocks, each block widens its weights into scratch memory, and
// blocks have at most kPanelRows rows and kPanelOuts outputs, which fit the second-level cache.
inline constexpr int kMaxStreamedRows = 16;
inline constexpr int kPanelRows = 192;
inline constexpr int kPanelOuts = 32;
// Elements of k between two spills of the accumulators: the x of a register tile then stays in the
// first-level cache while the weights of the panel pass by.
inline constexpr int kPanelDepth = 512;

// The operations for one kind of weights.
struct ProductKernels {
  // Packs the rows of one block, if IsPacked.
  void (*pack_rows)(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed);
  // `scratch` holds MatMulScratchFloats(num_rows), or is null if rows are few.
  void (*multiply)(const MatMulBlock& block, float* scratch);
};

struct MatMulKernels {
  ProductKernels floats;
  ProductKernels int8;

  const ProductKernels& For(DType w_dtype) const { return w_dtype == DType::kI8 ? int8 : floats; }
};

// Whether rows go through pack_rows: if they are many, and always for integers.
constexpr bool IsPacked(int64_t num_rows, DType w_dtype) {
  return num_rows > kMaxStreamedRows || w_dtype == DType::kI8;
}

// Packed rows are consecutive: a block begins after PackedFloats of the preceding rows.
int64_t PackedFloats(int64_t num_rows, int64_t k, DType w_dtype);
int64_t MatMulScratchFloats(int num_rows);

// The kernels of the target that Highway has chosen.
ProductKernels GetFloatMatMulKernels();

}  // namespace mea::cpu
