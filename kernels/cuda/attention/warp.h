#pragma once

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// Over all lanes, the same in every lane.
__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x = fmaxf(x, ShflXor(x, mask));
  return x;
}
__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) x += ShflXor(x, mask);
  return x;
}

}  // namespace mea::cuda
