#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Whether LaunchDecodeMma takes this shape: head_dim 64 or 128, page_size a multiple of 64.
constexpr bool HasDecodeMma(int head_dim, int page_size) {
  return (head_dim == 64 || head_dim == 128) && page_size % SlabLayout::kTileTokens == 0;
}

// Partial results of all items on tensor cores (mma.sync, sm_80 and later), reading every slab of
// the cache once.
cudaError_t LaunchDecodeMma(const DecodeParams& params, WeightRounding rounding,
                            cudaStream_t stream);

}  // namespace mea::cuda
