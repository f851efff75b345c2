#pragma once

#include "kernels/cuda/attention/integer_slab.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/hadamard.h"

namespace mea::cuda {

// Where the scale is no number, or its inverse would be infinite, all integers are zero.
__device__ __forceinline__ float InverseScale(float scale) {
  constexpr float kLeastNormal = 0x1p-126f;
  return scale >= kLeastNormal ? 1.0f / scale : 0.0f;
}
// The next BF16 number above a positive float, as kernels/int4_heads.cc has it.
__device__ __forceinline__ Bf16 Bf16Above(float x) {
  return {static_cast<uint16_t>((__builtin_bit_cast(uint32_t, x) + 0xffffu) >> 16)};
}
__device__ __forceinline__ Bf16 Bf16Below(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if (bits >> 31 == 0) return {static_cast<uint16_t>(bits >> 16)};
  return {static_cast<uint16_t>(Bf16Above(-x).bits | 0x8000u)};
}
inline constexpr uint32_t kInfinityBits = 0x7f800000u;

// QuantizeHead of kernels/int8_rows.h.
__device__ inline void StoreInt8(const float* x, int lane, int lanes, const IntegerSlab& layout,
                                 std::byte* slab, int token) {
  uint32_t largest = 0;  // as bits, whose order is that of magnitudes: a NaN is the largest
#pragma unroll 1
  for (int e = lane; e < layout.head_dim; e += lanes) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x[e]) & 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    const uint32_t other = ShflXor(largest, mask);
    largest = other > largest ? other : largest;
  }
  if (slab == nullptr) return;
  const bool is_finite = largest < kInfinityBits;
  const Bf16 scale =
      is_finite ? Bf16Above(__builtin_bit_cast(float, largest) / 127.0f) : Bf16{0x7fc0};
  const float inverse = InverseScale(Widen(scale));
  const auto integer = [&](float value) {
    if (!is_finite) return 0;
    const int rounded = RoundToInt(value * inverse);
    return rounded < -127 ? -127 : rounded > 127 ? 127 : rounded;
  };
#pragma unroll 1
  for (int e = 2 * lane; e < layout.head_dim; e += 2 * lanes) {
    const int pair = (integer(x[e]) & 0xff) | (integer(x[e + 1]) & 0xff) << 8;
    *reinterpret_cast<uint16_t*>(slab + layout.Offset(token, e)) = static_cast<uint16_t>(pair);
  }
  if (lane == 0) *reinterpret_cast<Bf16*>(slab + layout.Scale(token)) = scale;
}

// QuantizeInt4Head of kernels/int4_heads.h, of what is rotated.
__device__ inline void StoreInt4(const float* x, int lane, int lanes, const IntegerSlab& layout,
                                 std::byte* slab, int token) {
  float low = __builtin_bit_cast(float, kInfinityBits);
  float high = -low;
  uint32_t spoilt = 0;
#pragma unroll 1
  for (int e = lane; e < layout.head_dim; e += lanes) {
    low = x[e] < low ? x[e] : low;
    high = x[e] > high ? x[e] : high;
    spoilt |= (__builtin_bit_cast(uint32_t, x[e]) & 0x7fffffffu) >= kInfinityBits ? 1 : 0;
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    low = fminf(low, ShflXor(low, mask));
    high = fmaxf(high, ShflXor(high, mask));
    spoilt |= ShflXor(spoilt, mask);
  }
  if (slab == nullptr) return;
  Bf16 zero = Bf16Below(low);
  const float least = Widen(zero);
  Bf16 scale = Bf16Above((high - least) / 15.0f);
  const auto is_finite = [](Bf16 number) { return (number.bits & 0x7fffu) < 0x7f80u; };
  const bool is_number = spoilt == 0 && is_finite(zero) && is_finite(scale);
  if (!is_number) zero = scale = {0x7fc0};
  const float inverse = InverseScale(Widen(scale));
  const auto integer = [&](float value) {
    if (!is_number) return 0;
    const int rounded = RoundToInt((value - least) * inverse);
    return rounded < 0 ? 0 : rounded > 15 ? 15 : rounded;
  };
#pragma unroll 1
  for (int e = 2 * lane; e < layout.head_dim; e += 2 * lanes) {
    slab[layout.Offset(token, e)] = static_cast<std::byte>(integer(x[e]) | integer(x[e + 1]) << 4);
  }
  // What a row of a whole number of runs has beyond the head stays unread.
  if (lane != 0) return;
  *reinterpret_cast<Bf16*>(slab + layout.Scale(token)) = scale;
  *reinterpret_cast<Bf16*>(slab + layout.Zero(token)) = zero;
}

// One head's key or value x[head_dim] in shared memory becomes integers in the cache: by a group of
// `lanes` lanes, a power of two. All groups of the warp come here together; one without a slab
// stores nothing. `rotates`: some group may store 4 bits.
__device__ inline void StoreIntegers(float* x, int lane, int lanes, bool rotates,
                                     const IntegerSlab& layout, std::byte* slab, int token) {
  const bool is_int4 = layout.dtype == DType::kI4;
  if (rotates) {
    RotateHadamard(x, layout.head_dim, lane, lanes, is_int4);
  } else {
    SyncWarp();
  }
  // Groups of both formats may meet, and shuffles want the whole warp.
  StoreInt8(x, lane, lanes, layout, is_int4 ? nullptr : slab, token);
  if (rotates) StoreInt4(x, lane, lanes, layout, is_int4 ? slab : nullptr, token);
}

}  // namespace mea::cuda
