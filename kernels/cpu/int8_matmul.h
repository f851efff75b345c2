#pragma once

#include <cstdint>

#include "kernels/cpu/matmul.h"

namespace mea::cpu {

// Products with weights in 8 bits (kernels/int8_rows.h), in integers. Each stretch of a row of x,
// kStretch elements counted from k = 0, is rounded to 16 bits and one scale, max|x| / 32767:
//
//   out[row, o] = scale(w_o) * sum over stretches of scale(x_row, stretch) *
//                 (sum over its elements of int16 x * int8 w, exact in 32 bits) + bias[o]
//
// No step is off by more than half the scale, so the product by no more than half the scale times
// the sum of |w|. A stretch that holds an infinity or a NaN makes all products of its row NaN.
// Magnitudes below 2^-116 round to zero.

inline constexpr int kStretch = kPanelDepth;

// k, padded to whole steps of every target.
constexpr int64_t PackedInt8Depth(int64_t k) { return (k + 31) / 32 * 32; }
// What one row takes in packed memory: integers of 2 bytes, a scale for each stretch; whole cache
// lines.
constexpr int64_t PackedInt8Floats(int64_t k) {
  const int64_t num_stretches = (k + kStretch - 1) / kStretch;
  return PackedInt8Depth(k) / 2 + (num_stretches + 15) / 16 * 16;
}

// Those of the target that Highway has chosen now. Their x is packed in any number of rows.
ProductKernels GetInt8MatMulKernels();

}  // namespace mea::cpu
