#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cuda {

// out = x w^T + bias for a handful of rows: w is read once, as fast as memory delivers it. A row's
// result depends neither on the other rows nor on their number: only out_features and in_features
// decide the order of summation.
struct SkinnyGemmParams {
  const Bf16* x = nullptr;  // [num_rows, in_features]
  int64_t x_stride = 0;     // elements from row to row
  const Bf16* w = nullptr;  // [out_features, in_features]
  int64_t w_stride = 0;
  const float* bias = nullptr;  // [out_features] or null
  Bf16* out = nullptr;          // [num_rows, out_features]: one of the two,
  float* out_f32 = nullptr;     // the other null
  int64_t out_stride = 0;
  float* partials = nullptr;  // SkinnyGemmPartials floats; scratch
  int* tickets = nullptr;     // SkinnyGemmTickets ints: 0 before the first call and after each
  int num_rows = 0;           // at most kMaxSkinnyRows
  int in_features = 0;        // a multiple of 8; rows of x and w start on 16-byte boundaries
  int out_features = 0;
};
inline constexpr int kMaxSkinnyRows = 8;

cudaError_t LaunchSkinnyGemm(const SkinnyGemmParams& params, cudaStream_t stream);

// Scratch of one call; calls of one stream may share it.
int64_t SkinnyGemmPartials(int out_features, int in_features);
int64_t SkinnyGemmTickets(int out_features, int in_features);

}  // namespace mea::cuda
