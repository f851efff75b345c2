#pragma once

// Rotary embedding and everything else between the projections and attention. q, k and v may be
// column blocks of one buffer [num_tokens, (q_heads + key_heads + value_heads) * head_dim]: strides
// are in elements from one token to the next, the heads of a token are adjacent. head_dim is even
// and at most kMaxRopeHeadDim; multiples of 16 on 16-byte boundaries are fastest.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/paged_kv.h"

namespace mea::cuda {

inline constexpr int kMaxRopeHeadDim = 512;

// The angles of every token, in double: at position 100,000 a float angle would be off by 0.004.
struct RopeParams {
  const int32_t* positions = nullptr;  // [num_tokens]
  const double* inv_freq = nullptr;    // [head_dim / 2]
  double attention_factor = 1.0;       // yarn's scale of cos and sin
  // [num_tokens * pseudo_heads, head_dim]: cos in the first half, then sin
  float* cos_sin = nullptr;
  int num_tokens = 0;
  int head_dim = 0;
  int pseudo_heads = 1;  // P: row n * P + p is of position P * positions[n] + p
};
cudaError_t LaunchComputeRope(const RopeParams& params, cudaStream_t stream);

// QK-norm (if gain is present) and rotation, in place.
struct QueryParams {
  Bf16* q = nullptr;  // [num_tokens, q_heads, head_dim]
  int64_t q_stride = 0;
  const float* gain = nullptr;  // [head_dim] or null
  float eps = 0;
  const float* cos_sin = nullptr;  // [num_tokens, head_dim]
  int64_t cos_sin_stride = 0;      // elements from row to row; 0: rows are dense
  int num_tokens = 0;
  int q_heads = 0;
  int head_dim = 0;
};
cudaError_t LaunchPrepareQueries(const QueryParams& params, cudaStream_t stream);

// Keys and values into the paged cache; the three cases of AppendKvArgs (kernels/ops/attention.h):
//   gain null                  RoPE(y_c)
//   key_norm_heads == 0        RoPE(gain * y_c / rms(y_c))
//   key_norm_heads == h        RoPE(gain * y_c), and 1 / rms(sum_c key_mix[c,j] y_c) for every j
// A token with a negative slot is not stored.
struct AppendParams {
  const Bf16* k = nullptr;  // [num_tokens, key_heads, head_dim]
  int64_t k_stride = 0;
  const Bf16* v = nullptr;  // [num_tokens, value_heads, head_dim]
  int64_t v_stride = 0;
  const int32_t* slots = nullptr;  // [num_tokens]: page * page_size + offset
  const float* gain = nullptr;     // [head_dim] or null
  float eps = 0;
  const float* key_mix = nullptr;  // [key_heads, key_norm_heads], or null
  const float* cos_sin = nullptr;  // [num_tokens, head_dim]
  int64_t cos_sin_stride = 0;      // as of QueryParams
  // [num_pages, key_heads, page_size, head_dim], in SlabLayout's order or IntegerSlab's
  void* keys = nullptr;
  void* values = nullptr;      // [num_pages, value_heads, page_size, head_dim], likewise
  float* key_norms = nullptr;  // [num_pages, key_norm_heads, page_size]
  int num_tokens = 0;
  int key_heads = 0;
  int value_heads = 0;
  int key_norm_heads = 0;
  int head_dim = 0;
  int page_size = 0;
  KvDTypes dtype = {};  // of keys and values: BF16, or integers
};
cudaError_t LaunchAppendKv(const AppendParams& params, cudaStream_t stream);

// Both of the above for the same tokens, in one kernel.
cudaError_t LaunchPrepareAndAppend(const QueryParams& queries, const AppendParams& kv,
                                   cudaStream_t stream);

}  // namespace mea::cuda
