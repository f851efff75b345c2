#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Keys or values of the virtual heads of one sequence: the cache itself if component heads are the
// virtual ones, or an expanded copy, whose tiles are in order. Either way a tile of 64 tokens of
// one head is one run of memory in SlabLayout.
struct HeadSlabs {
  const Bf16* slabs = nullptr;     // [num_pages, kv_heads, page_size, head_dim]
  const int32_t* pages = nullptr;  // of the sequence; absent: page i holds its i-th tokens
  int page_size = 0;

  __host__ __device__ constexpr int PageOf(int token) const {
    const int index = token / page_size;
    return pages == nullptr ? index : pages[index];
  }
  // The tile of virtual head g that begins at token `token`, a multiple of 64, of that page.
  __host__ __device__ constexpr const Bf16* Tile(int page, int token, int kv_heads, int g,
                                                 int head_dim) const {
    const SlabLayout layout = {page_size, head_dim};
    return slabs + layout.SlabBegin(page, kv_heads, g) + token % page_size * head_dim;
  }
};

// Causal attention of one sequence's query rows [q_begin, q_begin + q_len), of which the last sees
// all kv_len tokens, over virtual heads; head norm included. The cache, mixes and norms in
// `attention` are not used.
struct PrefillParams {
  AttentionParams attention;
  HeadSlabs keys;
  HeadSlabs values;
  int q_begin = 0;
  int q_len = 0;
  int kv_len = 0;

  // Rows of one virtual head: query positions times its query heads.
  __host__ __device__ constexpr int num_rows() const { return q_len * attention.group(); }
};

}  // namespace mea::cuda
