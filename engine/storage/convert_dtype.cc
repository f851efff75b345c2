#include "engine/storage/convert_dtype.h"

#include <cmath>
#include <cstring>

namespace mea {
namespace {

float Widen(float x) { return x; }
float Widen(Bf16 x) { return ToFloat(x); }
float Widen(F16 x) { return ToFloat(x); }

template <typename To>
To Narrow(float x) {
  if constexpr (DTypeOf<To>() == DType::kBf16) {
    return ToBf16(x);
  } else if constexpr (DTypeOf<To>() == DType::kF16) {
    return ToF16(x);
  } else {
    return x;
  }
}

template <typename From, typename To>
ConversionResult Convert(const char* from, To* to, int64_t count) {
  ConversionResult result;
  for (int64_t i = 0; i < count; ++i) {
    From stored;
    std::memcpy(&stored, from + i * static_cast<int64_t>(sizeof(From)), sizeof(From));
    const float x = Widen(stored);
    to[i] = Narrow<To>(x);
    const bool finite = std::isfinite(x);
    result.num_non_finite += !finite;
    result.num_overflows += finite && !std::isfinite(Widen(to[i]));
  }
  return result;
}

template <typename From>
ConversionResult ConvertFrom(const void* from, void* to, DType to_dtype, int64_t count) {
  const char* bytes = static_cast<const char*>(from);
  switch (to_dtype) {
    case DType::kF32:
      return Convert<From>(bytes, static_cast<float*>(to), count);
    case DType::kBf16:
      return Convert<From>(bytes, static_cast<Bf16*>(to), count);
    case DType::kF16:
      return Convert<From>(bytes, static_cast<F16*>(to), count);
    default:
      MEA_CHECK(!"a float format that weights are converted to");
  }
  return {};
}

}  // namespace

ConversionResult ConvertDType(const void* from, DType from_dtype, void* to, DType to_dtype,
                              int64_t count) {
  switch (from_dtype) {
    case DType::kF32:
      return ConvertFrom<float>(from, to, to_dtype, count);
    case DType::kBf16:
      return ConvertFrom<Bf16>(from, to, to_dtype, count);
    case DType::kF16:
      return ConvertFrom<F16>(from, to, to_dtype, count);
    default:
      MEA_CHECK(!"a float format that checkpoints load from");
  }
  return {};
}

}  // namespace mea
