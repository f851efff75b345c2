#pragma once

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

__device__ __forceinline__ float Exp(float x) {
  constexpr float kLog2OfE = 1.4426950408889634f;
  return Exp2(kLog2OfE * x);
}

// If e^-x overflows, both are 0, as they should be.
__device__ __forceinline__ float Sigmoid(float x) { return Rcp(1.0f + Exp(-x)); }
__device__ __forceinline__ float Silu(float x) { return x * Sigmoid(x); }

}  // namespace mea::cuda
