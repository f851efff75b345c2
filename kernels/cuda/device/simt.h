#pragma once

// The threads of a block, their exchanges, and scalars. Every function is one CUDA instruction;
// tests/simt has the same functions for the CPU.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace mea::cuda {

inline constexpr int kWarpSize = 32;

// The block's dynamic shared memory, 1024-byte aligned (LaunchConfig::shared_bytes of it); there is
// no other.
__device__ __forceinline__ std::byte* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char mea_dynamic_shared[];
  return reinterpret_cast<std::byte*>(mea_dynamic_shared);
}

// The 32-bit shared-memory address for PTX.
__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- Meeting. Every named thread takes part, always in whole warps.

__device__ __forceinline__ void SyncThreads() { __syncthreads(); }
__device__ __forceinline__ void SyncWarp() { __syncwarp(); }

// Joins `num_threads` threads (a multiple of 32) of the block; id in [1, 16): 0 is SyncThreads.
__device__ __forceinline__ void NamedBarrier(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// T is float, int or uint32_t. A source outside the warp gives the thread its own value.
template <class T>
__device__ __forceinline__ T ShflXor(T value, int mask) {
  static_assert(sizeof(T) == 4);
  return __shfl_xor_sync(~0u, value, mask);
}
template <class T>
__device__ __forceinline__ T Shfl(T value, int lane) {
  static_assert(sizeof(T) == 4);
  return __shfl_sync(~0u, value, lane);
}
template <class T>
__device__ __forceinline__ T ShflDown(T value, int delta) {
  static_assert(sizeof(T) == 4);
  return __shfl_down_sync(~0u, value, static_cast<unsigned>(delta));
}
template <class T>
__device__ __forceinline__ T ShflUp(T value, int delta) {
  static_assert(sizeof(T) == 4);
  return __shfl_up_sync(~0u, value, static_cast<unsigned>(delta));
}
// Bit i is lane i's predicate.
__device__ __forceinline__ uint32_t Ballot(bool predicate) { return __ballot_sync(~0u, predicate); }

// ---- Memory. Atomics return the old value.

__device__ __forceinline__ int AtomicAdd(int* address, int value) {
  return atomicAdd(address, value);
}
__device__ __forceinline__ uint32_t AtomicAdd(uint32_t* address, uint32_t value) {
  return atomicAdd(address, value);
}
__device__ __forceinline__ float AtomicAdd(float* address, float value) {
  return atomicAdd(address, value);
}
__device__ __forceinline__ uint32_t AtomicMax(uint32_t* address, uint32_t value) {
  return atomicMax(address, value);
}
// Writes before it are seen on the whole device before writes after it.
__device__ __forceinline__ void ThreadFence() { __threadfence(); }

// 16 bytes. Not through the read-only path: if kernels overlap, it might not show what the previous
// one wrote.
__device__ __forceinline__ uint4 LoadGlobal128(const void* global) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global)
               : "memory");
  return v;
}
// 16 bytes that no kernel of a step writes, read once: weights pass by data that is read again. Not
// through the read-only path: ptxas moves such loads below WaitForPrevious.
__device__ __forceinline__ uint4 LoadStreaming128(const void* global) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global)
               : "memory");
  return v;
}

// Brings the line to the second-level cache.
__device__ __forceinline__ void PrefetchGlobal(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

// ---- Scalars.

// 2^x, 1/sqrt(x), 1/x to about 2^-22; subnormal results are 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float Rsqrt(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float Rcp(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// To the nearest, ties to even.
__device__ __forceinline__ int RoundToInt(float x) {
  int rounded;
  asm("cvt.rni.s32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}

// Byte i of the result is the one of `a`'s four bytes, then `b`'s, that nibble i of `selector`
// names.
__device__ __forceinline__ uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}

// The conversions of kernels/dtype.h, on the device.
__device__ __forceinline__ float Widen(Bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ __forceinline__ Bf16 Narrow(float x) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
}
// Two BF16 in one register, `lo` in the low half (the lower address).
__device__ __forceinline__ uint32_t PackBf16(float lo, float hi) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(hi), "f"(lo));
  return packed;
}
__device__ __forceinline__ float2 UnpackBf16(uint32_t packed) {
  return make_float2(__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u));
}
// a - b of each of two BF16.
__device__ __forceinline__ uint32_t SubtractBf16(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(difference) : "r"(b), "r"(0xbf80bf80u), "r"(a));
  return difference;
}

}  // namespace mea::cuda
