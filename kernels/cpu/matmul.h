#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cpu {

// A rectangle of out = x w^T + bias. Every element of out is one vector accumulator over all of k,
// summed over its lanes at the end; neither the rectangle nor the number of rows changes a bit.
struct MatMulBlock {
  const float* x;  // [num_rows, k]
  int64_t x_stride;
  int num_rows;
  const void* w;  // [num_outs, k]
  DType w_dtype;  // F32, BF16 or F16
  int64_t w_stride;
  int num_outs;
  int64_t k;
  const float* bias;  // [num_outs] or null
  float* out;         // [num_rows, num_outs]
  int64_t out_stride;
};

// With more rows than this it pays to widen the weights into scratch memory first; then the blocks
// below are what fits the second-level cache.
inline constexpr int kMaxStreamedRows = 6;
inline constexpr int kPanelRows = 192;
inline constexpr int kPanelOuts = 32;
inline constexpr int kPanelDepth = 512;
// Scratch floats that a block of at most kPanelRows x kPanelOuts needs.
int64_t MatMulScratchFloats(int num_rows);

using MatMulKernel = void (*)(const MatMulBlock& block, float* scratch);
// That of the target that Highway has chosen now.
MatMulKernel GetMatMulKernel();

}  // namespace mea::cpu
