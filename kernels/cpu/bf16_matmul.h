#pragma once

#include <cstdint>

#include "kernels/cpu/matmul.h"

namespace mea::cpu {

// Products with BF16 weights on processors with AVX512_BF16, whose instruction multiplies 16 pairs
// of BF16 numbers and adds the two products of each to a float (vdpbf16ps: 32 multiply-adds, where
// an FMA of floats does 16). Rows of x are therefore rounded to BF16, to nearest even:
//
//   out[row, o] = sum over k of bf16(x[row, i]) * w[o, i] + bias[o]
//
// No element of x is off by more than 2^-8 of itself, so the product by no more than 2^-8 of the
// sum of |x w|. The instruction takes denormal numbers for zeros and makes none. Infinities and
// NaNs are products and sums as those of floats are.

// Whether this machine has the instruction.
bool HasBf16Products();

// Their x is packed for any number of rows.
ProductKernels GetBf16MatMulKernels();

}  // namespace mea::cpu
