#pragma once

#include "kernels/cuda/attention/prefill.h"

namespace mea::cuda {

// Whether LaunchPrefillMma takes this shape.
constexpr bool HasPrefillMma(int head_dim, int page_size) {
  return (head_dim == 64 || head_dim == 128) && page_size % SlabLayout::kTileTokens == 0;
}

cudaError_t LaunchPrefillMma(const PrefillParams& params, cudaStream_t stream);

}  // namespace mea::cuda
