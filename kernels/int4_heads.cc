#include "kernels/int4_heads.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/check.h"

namespace mea {
namespace {

constexpr int64_t kMostElements = 1024;
constexpr float kLargestInteger = 15;

// Side by side, of which a compiler makes vectors.
constexpr int64_t kSideBySide = 16;

struct Range {
  float low;
  float high;
  bool is_finite;
};

Range RangeOf(const float* x, int64_t d) {
  std::array<float, kSideBySide> low, high;
  std::array<int32_t, kSideBySide> spoilt{};
  low.fill(std::numeric_limits<float>::infinity());
  high.fill(-std::numeric_limits<float>::infinity());
  const auto widen = [&](int64_t lane, float value) {
    low[lane] = value < low[lane] ? value : low[lane];
    high[lane] = value > high[lane] ? value : high[lane];
    spoilt[lane] |= std::abs(value) <= std::numeric_limits<float>::max() ? 0 : 1;
  };
  int64_t i = 0;
  for (; i + kSideBySide <= d; i += kSideBySide) {
    for (int64_t lane = 0; lane < kSideBySide; ++lane) widen(lane, x[i + lane]);
  }
  for (; i < d; ++i) widen(0, x[i]);
  return {.low = *std::min_element(low.begin(), low.end()),
          .high = *std::max_element(high.begin(), high.end()),
          .is_finite = *std::max_element(spoilt.begin(), spoilt.end()) == 0};
}

// The next BF16 number above a positive float: infinity above all finite ones.
Bf16 Bf16Above(float x) {
  return {static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0xffffu) >> 16)};
}
Bf16 Bf16Below(float x) {
  if (std::signbit(x)) return {static_cast<uint16_t>(Bf16Above(-x).bits | 0x8000u)};
  return {static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16)};
}

template <typename T>
void RotatePowerOfTwo(T* x, int64_t n) {
  for (int64_t half = 1; half < n; half *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * half) {
      T* const first = x + begin;
      T* const second = first + half;
      for (int64_t i = 0; i < half; ++i) {
        const T sum = first[i] + second[i];
        second[i] = first[i] - second[i];
        first[i] = sum;
      }
    }
  }
  const T scale = T{1} / std::sqrt(static_cast<T>(n));
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace

template <typename T>
void RotateHadamard(T* x, int64_t d) {
  while (d > 0) {
    const auto n = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(d)));
    RotatePowerOfTwo(x, n);
    x += n;
    d -= n;
  }
}

// In float32 for every T, so that back ends of both kinds store the same integers.
template <typename T>
Int4HeadScale QuantizeInt4Head(const T* from, int64_t d, uint8_t* to) {
  MEA_CHECK(d <= kMostElements);
  std::array<float, kMostElements> x;
  std::copy_n(from, d, x.begin());
  RotateHadamard(x.data(), d);
  const Range range = RangeOf(x.data(), d);
  const Bf16 zero = Bf16Below(range.low);
  const float low = ToFloat(zero);
  const Bf16 stored = Bf16Above((range.high - low) / kLargestInteger);
  const float scale = ToFloat(stored);
  if (!range.is_finite || !std::isfinite(low) || !std::isfinite(scale)) {
    std::fill_n(to, d, uint8_t{0});
    const Bf16 nan = ToBf16(std::numeric_limits<float>::quiet_NaN());
    return {.scale = nan, .zero = nan};
  }
  // Adding it leaves no bits for a fraction: this rounds to nearest, ties to even, without a call.
  constexpr float kNoFraction = 0x1.8p23f;
  // The inverse of a smaller one may be infinite, so it counts as zero.
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
  for (int64_t i = 0; i < d; ++i) {
    const float rounded = ((x[i] - low) * inverse + kNoFraction) - kNoFraction;
    to[i] = static_cast<uint8_t>(std::clamp(rounded, 0.0f, kLargestInteger));
  }
  return {.scale = stored, .zero = zero};
}

void PackInt4Head(const uint8_t* from, int64_t d, Int4Pair* to) {
  for (int64_t run = 0; run < d; run += 32, to += 16) {
    for (int64_t i = 0; i < 16; ++i) {
      const uint32_t low = run + i < d ? from[run + i] : 0;
      const uint32_t high = run + 16 + i < d ? from[run + 16 + i] : 0;
      to[i] = {static_cast<uint8_t>(low | high << 4)};
    }
  }
}

template void RotateHadamard(float* x, int64_t d);
template void RotateHadamard(double* x, int64_t d);
template Int4HeadScale QuantizeInt4Head(const float* from, int64_t d, uint8_t* to);
template Int4HeadScale QuantizeInt4Head(const double* from, int64_t d, uint8_t* to);

}  // namespace mea
