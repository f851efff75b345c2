#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

inline constexpr int kMaxGeneralHeadDim = 512;

// Query heads of a part of an item: a warp has one. The same for LaunchInterleaved.
inline constexpr int kGeneralHeads = 4;
__host__ __device__ constexpr int GeneralParts(int q_heads) {
  return (q_heads + kGeneralHeads - 1) / kGeneralHeads;
}

// Partial results of all items by plain float32 arithmetic: any even head_dim up to 512, any page
// size, every option. For the shapes that no fast kernel supports, and as a reference for those.
cudaError_t LaunchDecodeGeneral(const DecodeParams& params, cudaStream_t stream);

}  // namespace mea::cuda
