#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Virtual heads of tokens of one sequence, composed once so that many queries share the work:
//   keys_g(t) = r[t,g] * sum_c W_K[c,g] K_c(t)     values_g(t) = sum_c W_V[c,g] V_c(t)
// rounded to BF16. `out` is one run of tiles of 64 tokens, tile i holding tokens [64 i, 64 i + 64):
// [tiles, kv_heads, 64, head_dim] in SlabLayout. Tiles without a token of `tokens` are not written.
// In the other tiles, rows of tokens outside of `tokens` are computed from whatever their cache
// slots hold.
struct ExpandParams {
  const void* slabs = nullptr;     // keys or values, [num_pages, num_heads, page_size, head_dim]
  DType dtype = DType::kBf16;      // of the slabs; out of integers in 4 bits, rotated back
  const float* mix = nullptr;      // [num_heads, kv_heads], or absent
  const float* norms = nullptr;    // [num_pages, kv_heads, page_size], or absent
  const int32_t* pages = nullptr;  // of the sequence
  Bf16* out = nullptr;
  int num_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;   // a multiple of 64
  int page_size = 0;  // a multiple of 64
  TokenRange tokens = {0, 0};
};

cudaError_t LaunchExpand(const ExpandParams& params, cudaStream_t stream);

}  // namespace mea::cuda
