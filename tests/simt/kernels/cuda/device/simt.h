#pragma once

// Stands for kernels/cuda/device/simt.h when kernels are compiled for the CPU. Same functions;
// those where a warp meets also take the place of the call, for the check that all lanes make the
// same one.

#include <cuda_runtime.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"
#include "tests/simt/block.h"
#include "tests/simt/collectives.h"
#include "tests/simt/omission.h"

namespace mea::cuda {

inline constexpr int kWarpSize = 32;

inline std::byte* DynamicShared() { return simt::Block::Current().shared().data(); }

inline void SyncThreads(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("SyncThreads", where)) return;
  simt::Block::Current().Barrier("SyncThreads", where, 0, 0);
}
inline void SyncWarp(simt::Where where = simt::Where::current()) {
  if (!simt::IsOmitted("SyncWarp", where)) simt::SyncWarp(where);
}
inline void NamedBarrier(int id, int num_threads, simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("NamedBarrier", where)) return;
  simt::NamedBarrier(id, num_threads, where);
}

template <class T>
T ShflXor(T value, int mask, simt::Where where = simt::Where::current()) {
  return simt::Shuffle("ShflXor", value, simt::LaneId() ^ mask, where);
}
template <class T>
T Shfl(T value, int lane, simt::Where where = simt::Where::current()) {
  return simt::Shuffle("Shfl", value, lane & (kWarpSize - 1), where);
}
template <class T>
T ShflDown(T value, int delta, simt::Where where = simt::Where::current()) {
  return simt::Shuffle("ShflDown", value, simt::LaneId() + delta, where);
}
template <class T>
T ShflUp(T value, int delta, simt::Where where = simt::Where::current()) {
  return simt::Shuffle("ShflUp", value, simt::LaneId() - delta, where);
}
inline uint32_t Ballot(bool predicate, simt::Where where = simt::Where::current()) {
  return simt::Ballot(predicate, where);
}

// Fibers of one host thread: nobody comes between.
template <class T>
T AtomicAdd(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  *address = old + value;
  return old;
}
inline uint32_t AtomicMax(uint32_t* address, uint32_t value) {
  const uint32_t old = *address;
  if (value > old) *address = value;
  return old;
}
inline void ThreadFence() {}

inline uint4 LoadGlobal128(const void* global, simt::Where where = simt::Where::current()) {
  simt::CheckGlobal("LoadGlobal128", global, 16, where);
  uint4 v;
  std::memcpy(&v, global, sizeof(v));
  return v;
}
inline uint4 LoadStreaming128(const void* global, simt::Where where = simt::Where::current()) {
  return LoadGlobal128(global, where);
}

inline void PrefetchGlobal(const void*) {}

inline float FlushSubnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x;
}
inline float Exp2(float x) { return FlushSubnormal(std::exp2(FlushSubnormal(x))); }
inline float Rsqrt(float x) { return 1.0f / std::sqrt(FlushSubnormal(x)); }
inline float Rcp(float x) { return FlushSubnormal(1.0f / FlushSubnormal(x)); }

inline int RoundToInt(float x) { return static_cast<int>(std::nearbyint(x)); }
inline uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  }
  return result;
}

inline float Widen(Bf16 x) { return ToFloat(x); }
inline Bf16 Narrow(float x) { return x != x ? Bf16{0x7fff} : ToBf16(x); }
inline uint32_t PackBf16(float lo, float hi) {
  return Narrow(lo).bits | static_cast<uint32_t>(Narrow(hi).bits) << 16;
}
inline float2 UnpackBf16(uint32_t packed) {
  return {std::bit_cast<float>(packed << 16), std::bit_cast<float>(packed & 0xffff0000u)};
}
inline uint32_t SubtractBf16(uint32_t a, uint32_t b) {
  const float2 x = UnpackBf16(a), y = UnpackBf16(b);
  return PackBf16(x.x - y.x, x.y - y.y);
}

}  // namespace mea::cuda
