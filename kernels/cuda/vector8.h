#pragma once

// Eight neighbouring elements of a row in the registers of a thread: one access of 16 bytes in
// BF16, two in F32. Rows that are not aligned to 16 bytes, or whose length is not a multiple of 8,
// take the slow path (kAligned = false), element by element and with the row's end guarded.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

inline constexpr int kVectorElements = 8;

struct Vector8 {
  float at[kVectorElements];
};

// Whether rows of `T` at `base`, `stride` elements apart, all start on 16-byte boundaries.
template <class T>
bool StartAligned(const T* base, int64_t stride) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && stride * sizeof(T) % 16 == 0;
}

__device__ __forceinline__ Vector8 Unpack(uint4 packed) {
  const float2 a = UnpackBf16(packed.x);
  const float2 b = UnpackBf16(packed.y);
  const float2 c = UnpackBf16(packed.z);
  const float2 d = UnpackBf16(packed.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

__device__ __forceinline__ uint4 Pack(const Vector8& v) {
  return {PackBf16(v.at[0], v.at[1]), PackBf16(v.at[2], v.at[3]), PackBf16(v.at[4], v.at[5]),
          PackBf16(v.at[6], v.at[7])};
}

// Ordinary loads, not the read-only path: under programmatic dependent launch the kernel that wrote
// the data may have been in flight when this one started. Elements from `count` on read as 0.
template <bool kAligned>
__device__ __forceinline__ Vector8 Load8(const Bf16* row, int count) {
  if constexpr (kAligned) {
    return Unpack(*reinterpret_cast<const uint4*>(row));
  } else {
    Vector8 v;
    for (int i = 0; i < kVectorElements; ++i) v.at[i] = i < count ? Widen(row[i]) : 0.0f;
    return v;
  }
}

template <bool kAligned>
__device__ __forceinline__ Vector8 Load8(const float* row, int count) {
  if constexpr (kAligned) {
    const float4 a = reinterpret_cast<const float4*>(row)[0];
    const float4 b = reinterpret_cast<const float4*>(row)[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
  } else {
    Vector8 v;
    for (int i = 0; i < kVectorElements; ++i) v.at[i] = i < count ? row[i] : 0.0f;
    return v;
  }
}

template <bool kAligned>
__device__ __forceinline__ void Store8(Bf16* row, int count, const Vector8& v) {
  if constexpr (kAligned) {
    *reinterpret_cast<uint4*>(row) = Pack(v);
  } else {
    for (int i = 0; i < kVectorElements; ++i) {
      if (i < count) row[i] = Narrow(v.at[i]);
    }
  }
}

template <bool kAligned>
__device__ __forceinline__ void Store8(float* row, int count, const Vector8& v) {
  if constexpr (kAligned) {
    reinterpret_cast<float4*>(row)[0] = {v.at[0], v.at[1], v.at[2], v.at[3]};
    reinterpret_cast<float4*>(row)[1] = {v.at[4], v.at[5], v.at[6], v.at[7]};
  } else {
    for (int i = 0; i < kVectorElements; ++i) {
      if (i < count) row[i] = v.at[i];
    }
  }
}

}  // namespace mea::cuda
