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
// x * sigmoid(2 u) = 0.5 x (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
__device__ __forceinline__ float GeluTanh(float x) {
  constexpr float kLinear = 1.5957691216f;  // 2 sqrt(2 / pi)
  constexpr float kCubic = 0.044715f * kLinear;
  return x * Sigmoid(x * (kLinear + kCubic * (x * x)));
}

}  // namespace mea::cuda
