#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/attention/work_list.h"
#include "kernels/dtype.h"
#include "kernels/paged_kv.h"

namespace mea::cuda {

// PagedAttentionArgs of kernels/ops as the kernels see it: device arrays, dense except for q; the
// slabs of keys and values are in SlabLayout, or in IntegerSlab.
struct AttentionParams {
  const Bf16* q = nullptr;              // [num_rows, q_heads, head_dim], 16-byte aligned rows
  int64_t q_stride = 0;                 // elements from row to row; 0: rows are dense
  const int32_t* q_offsets = nullptr;   // [num_seqs + 1]
  const int32_t* kv_lens = nullptr;     // [num_seqs]; 0: padding, whose rows become zeros
  const int32_t* page_table = nullptr;  // [num_seqs, page_table_stride]
  // Slabs, of integers too: where DecodeMma casts these from void, ptxas spills.
  const Bf16* keys = nullptr;             // [num_pages, key_heads, page_size, head_dim]
  const Bf16* values = nullptr;           // [num_pages, value_heads, page_size, head_dim]
  const float* key_norms = nullptr;       // [num_pages, kv_heads, page_size] 1/rms, or absent
  const float* key_mix = nullptr;         // [key_heads, kv_heads], or absent
  const float* value_mix = nullptr;       // [value_heads, kv_heads], or absent
  const float* head_norm_gain = nullptr;  // [q_heads, head_dim], or absent
  Bf16* out = nullptr;                    // [num_rows, q_heads, head_dim]
  int num_rows = 0;
  int num_seqs = 0;
  int page_table_stride = 0;
  int q_heads = 0;
  int kv_heads = 0;  // virtual heads; q_heads is a multiple of it
  int key_heads = 0;
  int value_heads = 0;
  int head_dim = 0;
  int page_size = 0;
  KvDTypes dtype = {};  // of keys and values: BF16, or integers
  int window = 0;       // 0: none
  float scale = 1.0f;
  float head_norm_eps = 0.0f;

  __host__ __device__ constexpr SlabLayout layout() const { return {page_size, head_dim}; }
  __host__ __device__ constexpr bool has_integers() const {
    return dtype.keys != DType::kBf16 || dtype.values != DType::kBf16;
  }
  // Whether component heads are the virtual heads: then a query head needs only one component.
  __host__ __device__ constexpr bool is_plain() const {
    return key_mix == nullptr && value_mix == nullptr;
  }
  // Element 0 of a query.
  __host__ __device__ constexpr const Bf16* Query(int row, int head) const {
    const int64_t stride = q_stride > 0 ? q_stride : int64_t{q_heads} * head_dim;
    return q + row * stride + head * head_dim;
  }
  // Element 0 of a result.
  __host__ __device__ constexpr Bf16* Out(int row, int head) const {
    return out + (int64_t{row} * q_heads + head) * head_dim;
  }
  __host__ __device__ constexpr int group() const { return q_heads / kv_heads; }
};

// W[c, g]; an absent mix is the identity.
__host__ __device__ constexpr float MixWeight(const float* mix, int kv_heads, int c, int g) {
  if (mix == nullptr) return c == g ? 1.0f : 0.0f;
  return mix[c * kv_heads + g];
}

// How the product of softmax weights and values rounds: the weights of a component to BF16 (1.5e-3
// relative error of the result), or to a sum of two BF16 (4e-6), with half as many products more.
enum class WeightRounding { kBf16, kTwoBf16 };

// Running softmax of one head over some tokens, scores in powers of two: the partial result is
// sum_t 2^(s_t - max) v_t, and `sum` the same of 1 instead of v_t.
struct SoftmaxStats {
  float max;
  float sum;
};
// The score of a token that is not visible, and the first maximum. Finite: inf - inf is NaN.
inline constexpr float kMaskedScore = -1e30f;
inline constexpr float kLog2E = 1.4426950408889634f;

// The common parameters of the decode kernels: the work list of the batch and the partial results
// of its items.
struct DecodeParams {
  AttentionParams attention;
  WorkList list;
  int num_blocks = 0;                     // persistent, of the kernels that use the list
  float* partial_out = nullptr;           // [max_items, q_heads, head_dim]
  SoftmaxStats* partial_stats = nullptr;  // [max_items, q_heads]
};

}  // namespace mea::cuda
