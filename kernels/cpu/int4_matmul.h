#pragma once

#include "kernels/cpu/matmul.h"

namespace mea::cpu {

// Products with weights in 4 bits (kernels/int4_rows.h). Each stretch of a row of x is rounded as
// for weights in 8 bits (int8_matmul.h), and so are the bounds:
//
//   out[row, o] = scale(w_o) * sum over stretches and groups of
//                 scale(x_row, stretch) * scale(w_o, group) *
//                 (sum over its elements of int16 x * (q - zero), exact in 32 bits) + bias[o]
//
// The kernels of the target that Highway has chosen.
ProductKernels GetInt4MatMulKernels();

}  // namespace mea::cpu
