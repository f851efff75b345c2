#pragma once

#include "kernels/cuda/attention/prefill.h"

namespace mea::cuda {

// Whether LaunchPrefillWgmma takes this shape on this device.
constexpr bool HasPrefillWgmma(int sm_version, int head_dim, int page_size) {
  return sm_version == 90 && (head_dim == 64 || head_dim == 128) &&
         page_size % SlabLayout::kTileTokens == 0;
}

// The same on the tensor cores of sm_90a: tiles arrive by bulk copies, warpgroups multiply 64 rows
// at once. params.attention.scale is positive.
cudaError_t LaunchPrefillWgmma(const PrefillParams& params, cudaStream_t stream);

}  // namespace mea::cuda
