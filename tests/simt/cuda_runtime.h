#pragma once

// Stands for <cuda_runtime.h>: the runtime's functions, and what CUDA C++ adds to the language.

#include <cmath>
#include <type_traits>

#include "tests/simt/cuda_runtime_api.h"

#define MEA_SIMT_VECTORS(T, name, align2, align4)               \
  struct alignas(align2) name##2 {                              \
    T x, y;                                                     \
  };                                                            \
  struct alignas(align4) name##4 {                              \
    T x, y, z, w;                                               \
  };                                                            \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; } \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
MEA_SIMT_VECTORS(float, float, 8, 16)
MEA_SIMT_VECTORS(int, int, 8, 16)
MEA_SIMT_VECTORS(unsigned, uint, 8, 16)
#undef MEA_SIMT_VECTORS

template <class T>
requires std::is_arithmetic_v<T>
constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T>
requires std::is_arithmetic_v<T>
constexpr T max(T a, T b) { return a < b ? b : a; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

template <class T>
requires(!std::is_void_v<T>) cudaError_t cudaMalloc(T** device, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(device), bytes);
}
template <class T>
requires(!std::is_void_v<T>) cudaError_t cudaMallocHost(T** host, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(host), bytes);
}
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, void (*kernel)(P...),
                                                          int num_threads, size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      num_blocks, reinterpret_cast<const void*>(kernel), num_threads, shared_bytes);
}
