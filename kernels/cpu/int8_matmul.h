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
// the sum of |w|. An infinity or NaN in a stretch makes all products of its row NaN. Magnitudes
// below 2^-116 round to zero.

inline constexpr int kStretch = kPanelDepth;

// k, padded to whole steps of every target.
constexpr int64_t PackedInt8Depth(int64_t k) { return (k + 31) / 32 * 32; }
// The packed memory of one row: integers of 2 bytes, a scale per stretch; whole cache lines.
constexpr int64_t PackedInt8Floats(int64_t k) {
  const int64_t num_stretches = (k + kStretch - 1) / kStretch;
  return PackedInt8Depth(k) / 2 + (num_stretches + 15) / 16 * 16;
}

// The kernels of the target that Highway has chosen. Their x is packed for any number of rows.
ProductKernels GetInt8MatMulKernels();

}  // namespace mea::cpu
