#pragma once

#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// Where r[t, g] lies for tokens of one tile, from `token` on, and a lane's two virtual heads; null
// where there are none or the tile has no token of the item.
struct KeyNorms {
  const float* low = nullptr;
  const float* high = nullptr;

  __device__ KeyNorms(const AttentionParams& p, const WorkItem& item, int token,
                      const int (&g)[2]) {
    if (p.key_norms == nullptr || token >= item.end) return;
    const int page = p.page_table[int64_t{item.seq} * p.page_table_stride + token / p.page_size];
    const float* of_page =
        p.key_norms + int64_t{page} * p.kv_heads * p.page_size + token % p.page_size;
    low = of_page + g[0] * p.page_size;
    high = of_page + g[1] * p.page_size;
  }

  // Brings them nearer while the scores are computed: four lanes have the same heads.
  __device__ __forceinline__ void Prefetch(int lane) const {
    if (low == nullptr) return;
    PrefetchGlobal(low + lane % 4 * 16);
    PrefetchGlobal(high + lane % 4 * 16);
  }
};

}  // namespace mea::cuda
