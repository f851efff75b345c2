#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Whether LaunchDecodeWgmma takes this shape on this device.
constexpr bool HasDecodeWgmma(int sm_version, int head_dim, int page_size) {
  return sm_version == 90 && (head_dim == 64 || head_dim == 128) &&
         page_size % SlabLayout::kTileTokens == 0;
}

// Partial results of all items on the tensor cores of sm_90a: slabs arrive by bulk copies, a
// warpgroup multiplies 64 query heads at once.
cudaError_t LaunchDecodeWgmma(const DecodeParams& params, WeightRounding rounding,
                              cudaStream_t stream);

}  // namespace mea::cuda
