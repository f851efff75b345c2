#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "kernels/check.h"

namespace mea {

enum class Device : uint8_t { kCpu, kCuda };

// kF64 exists for the reference back end alone; kI8 for weights and the cache, with the scales that
// belong to them (kernels/int8_rows.h); kI4 for weights (kernels/int4_rows.h) and the cache
// (kernels/int4_heads.h).
enum class DType : uint8_t { kF64, kF32, kBf16, kF16, kI32, kI8, kI4 };

// Bytes of one element; of kI4, whose strides count bytes, of two.
constexpr int DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kI8:
    case DType::kI4:
      return 1;
  }
  return 0;
}

// "f32", "bf16", ...: the spelling of flags, logs and metrics.
constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI32:
      return "i32";
    case DType::kI8:
      return "int8";
    case DType::kI4:
      return "int4";
  }
  return "?";
}

// A back end's dtypes of activations: Backend::compute_dtype and wide_dtype.
struct ActivationDTypes {
  DType compute = DType::kF32;
  DType wide = DType::kF32;
};

// Storage of the two half-width formats; arithmetic happens after widening.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
// Two elements of kI4.
struct Int4Pair {
  uint8_t bits;
};

inline float ToFloat(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

// Round to nearest, ties to even; NaN stays a quiet NaN.
inline Bf16 ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline float ToFloat(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity and NaN
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  }
  // Shifting the fields up and rescaling by 2^112 makes floats of half subnormals exactly.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

// Round to nearest, ties to even; beyond 65519 infinity, NaN stays a quiet NaN.
inline F16 ToF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Below 2^-14 halves are multiples of 2^-24, as floats just above 1/2 are.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

// The C++ type of a storage format: DTypeOf<float>() == DType::kF32.
template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<double>() {
  return DType::kF64;
}
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<Bf16>() {
  return DType::kBf16;
}
template <>
constexpr DType DTypeOf<F16>() {
  return DType::kF16;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType DTypeOf<int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType DTypeOf<Int4Pair>() {
  return DType::kI4;
}

}  // namespace mea
