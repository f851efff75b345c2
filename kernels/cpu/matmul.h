#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cpu {

// A rectangle of out = x w^T + bias. Every element of out is one vector accumulator over all of k,
// summed over its lanes at the end; neither the rectangle nor the number of rows changes a bit.
struct MatMulBlock {
  const float* x;  // [num_rows, k], or as pack_rows leaves it if Packs(num_rows)
  int64_t x_stride;
  int num_rows;
  const void* w;  // [num_outs, k]
  DType w_dtype;  // F32, BF16, F16, I8 (kernels/int8_rows.h) or I4 (kernels/int4_rows.h)
  int64_t w_stride;
  int w_group;  // of I4: elements that share a scale
  int num_outs;
  int64_t k;
  const float* bias;  // [num_outs] or null
  float* out;         // [num_rows, num_outs]
  int64_t out_stride;
};

// Up to so many rows, weights stream from memory through registers and x is read in place. With
// more, x is packed once for all blocks, each block widens its weights into scratch memory, and
// blocks have at most kPanelRows rows and kPanelOuts outputs, which fit the second-level cache.
inline constexpr int kMaxStreamedRows = 16;
inline constexpr int kPanelRows = 192;
inline constexpr int kPanelOuts = 32;
// Elements of k between two spills of the accumulators: the x of a register tile then stays in the
// first-level cache while the weights of the panel pass by.
inline constexpr int kPanelDepth = 512;

// Multiply-adds in registers, as many at a time as the processor can do: what limits a product.
struct RegisterLoop {
  void (*run)(int64_t rounds);
  int64_t flops;  // of a round
};

// The rows of a block of a product, and the share of their groups that one call packs.
struct PackArgs {
  const float* x;
  int64_t x_stride;
  int num_rows;
  int64_t k;
  float* packed;  // of all groups
  int share = 0;
  int num_shares = 1;

  int FirstGroup(int num_groups) const { return share * num_groups / num_shares; }
  int EndGroup(int num_groups) const { return (share + 1) * num_groups / num_shares; }
};

// The operations for one kind of weights.
struct ProductKernels {
  int max_streamed_rows = kMaxStreamedRows;  // the most that are few
  bool packs_few_rows = false;               // whether x is packed for them, too
  // Blocks of few rows should have a multiple of these outputs, and weights of about so many bytes
  // at most; blocks of many rows at most so many rows and outputs.
  int few_outs = 12;
  int64_t few_bytes = 2 << 20;
  int most_rows = kPanelRows;
  int many_outs = kPanelOuts;
  // Packed memory of a row. Rows are consecutive: a block begins behind those of the rows before.
  int64_t (*row_floats)(int64_t k);
  void (*pack_rows)(const PackArgs& args);
  // `scratch` holds MatMulScratchFloats(num_rows), or is null if rows are few.
  void (*multiply)(const MatMulBlock& block, float* scratch);
  RegisterLoop loop;

  bool Streams(int64_t num_rows) const { return num_rows <= max_streamed_rows; }
  bool Packs(int64_t num_rows) const { return packs_few_rows || !Streams(num_rows); }
};

struct MatMulKernels {
  ProductKernels floats;  // F32 and F16
  ProductKernels bf16;
  ProductKernels int8;
  ProductKernels int4;

  const ProductKernels& For(DType w_dtype) const {
    switch (w_dtype) {
      case DType::kBf16:
        return bf16;
      case DType::kI8:
        return int8;
      case DType::kI4:
        return int4;
      default:
        return floats;
    }
  }
};

int64_t MatMulScratchFloats(int num_rows);

// The kernels of the target that Highway has chosen.
ProductKernels GetFloatMatMulKernels();

}  // namespace mea::cpu
