#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cpu {

// A rectangle of out = x w^T + bias. Every element of out is one vector accumulator over all of k,
// summed over its lanes at the end; neither the rectangle nor the number of rows changes a bit.
struct MatMulBlock {
  const float* x;  // [num_rows, k], or as PackRows leaves it where there are many rows
  int64_t x_stride;
  int num_rows;
  const void* w;  // [num_outs, k]
  DType w_dtype;  // F32, BF16, F16 or I8
  int64_t w_stride;
  int num_outs;
  int64_t k;
  const float* bias;  // [num_outs] or null
  float* out;         // [num_rows, num_outs]
  int64_t out_stride;
};

// Up to so many rows, weights stream from memory through registers and x is read as it lies. With
// more, x is packed once for all blocks, each block widens its weights into scratch memory, and
// blocks have at most kPanelRows rows and kPanelOuts outputs, which fit the second-level cache.
inline constexpr int kMaxStreamedRows = 16;
inline constexpr int kPanelRows = 192;
inline constexpr int kPanelOuts = 32;
// Elements of k between two spills of the accumulators: the x of a register tile then stays in the
// first-level cache while the weights of the panel pass by.
inline constexpr int kPanelDepth = 512;

struct MatMulKernels {
  // Packs the rows of one block of a product with many rows.
  void (*pack_rows)(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed);
  // `scratch` holds MatMulScratchFloats(num_rows), or is null where rows are few: then x is not
  // packed.
  void (*multiply)(const MatMulBlock& block, float* scratch);
};

int64_t PackedFloats(int64_t num_rows, int64_t k);
int64_t MatMulScratchFloats(int num_rows);

// Those of the target that Highway has chosen now.
MatMulKernels GetMatMulKernels();

}  // namespace mea::cpu
