#pragma once

#include <cstdint>

#include "kernels/cpu/matmul.h"

namespace mea::cpu {

// Products with weights in 8 bits (kernels/int8_rows.h) on processors with AVX512_VNNI or
// AVX_VNNI, whose instruction multiplies 16 or 8 quads of bytes and adds the four products of each
// to an integer (vpdpbusd: 64 or 32 multiply-adds). Each kGroup elements of a row of x, counted
// from k = 0, are rounded to 8 bits and one scale, max|x| / 127:
//
//   out[row, o] = scale(w_o) * sum over groups of scale(x_row, group) *
//                 (sum over its elements of int8 x * int8 w, exact) + bias[o]
//
// No step is off by more than half the scale, so the product by no more than half the scale times
// the sum of |w|. An infinity or NaN in a group makes all products of its row NaN. Magnitudes below
// 2^-108 round to zero.
inline constexpr int kGroup = 16;

// Whether this machine has the instruction on vectors of 512 bits.
bool HasVnniProducts();
// On vectors of 256 bits, without AVX-512 (AVX_VNNI).
bool HasAvxVnniProducts();

// Their x is packed for any number of rows.
ProductKernels GetVnniMatMulKernels();
ProductKernels GetAvxVnniMatMulKernels();

// The same with weights in 4 bits (kernels/int4_rows.h), whose blocks of 32 are the groups of x:
//
//   out[row, o] = scale(w_o) * sum over blocks of scale(x_row, block) * scale(w_o, group) *
//                 (sum over its elements of int8 x * (q - zero), exact) + bias[o]
ProductKernels GetVnniInt4MatMulKernels();
ProductKernels GetAvxVnniInt4MatMulKernels();
// Likewise without the instruction, by three of AVX-512 or AVX2.
ProductKernels GetAvx512Int4MatMulKernels();
ProductKernels GetAvx2Int4MatMulKernels();

}  // namespace mea::cpu
