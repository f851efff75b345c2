#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Whether LaunchPrefillMma takes this shape.
constexpr bool HasPrefillMma(int head_dim, int page_size) {
  return (head_dim == 64 || head_dim == 128) && page_size % SlabLayout::kTileTokens == 0;
}

// Keys or values of the virtual heads of one sequence: the cache itself where physical heads are
// the virtual ones, or an expanded copy, whose tiles lie in order.
struct HeadSlabs {
  const Bf16* slabs = nullptr;     // [num_pages, kv_heads, page_size, head_dim]
  const int32_t* pages = nullptr;  // of the sequence; absent: page i holds its i-th tokens
  int page_size = 0;
};

// Causal attention of one sequence's query rows [q_begin, q_begin + q_len), of which the last sees
// all kv_len tokens, over virtual heads; head norm included. Of `attention`, the cache, its mixes
// and its norms are not looked at.
struct PrefillParams {
  AttentionParams attention;
  HeadSlabs keys;
  HeadSlabs values;
  int q_begin = 0;
  int q_len = 0;
  int kv_len = 0;
};

cudaError_t LaunchPrefillMma(const PrefillParams& params, cudaStream_t stream);

}  // namespace mea::cuda
