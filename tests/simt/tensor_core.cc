#include "tests/simt/tensor_core.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace mea::simt {
namespace {

constexpr size_t kK = 16;
constexpr size_t kMaxColumns = 256;
constexpr uint32_t kExponentBias = 127;
constexpr uint32_t kDroppedBits = 23;  // an addend of 24 bits as an integer

float PowerOfTwo(uint32_t biased_exponent) { return std::bit_cast<float>(biased_exponent << 23); }

// Toward zero.
float Truncated(int32_t sum) {
  const auto rounded = static_cast<float>(sum);
  const bool is_away = std::abs(static_cast<int64_t>(rounded)) > std::abs(int64_t{sum});
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) - (is_away ? 1u : 0u));
}

}  // namespace

void AddTensorCoreProducts(const float* a, const float* b, size_t n, float* d) {
  float rounded[kMaxColumns];  // the sums in F32: they tell infinities and NaN
  float largest[kMaxColumns];
  for (size_t j = 0; j < n; ++j) {
    rounded[j] = d[j];
    largest[j] = std::fabs(d[j]);
  }
  for (size_t k = 0; k < kK; ++k) {
    for (size_t j = 0; j < n; ++j) {
      const float product = a[k] * b[k * n + j];
      rounded[j] += product;
      largest[j] = std::max(largest[j], std::fabs(product));
    }
  }
  float unit[kMaxColumns];  // of the last of the 24 bits
  float units[kMaxColumns];
  int32_t sums[kMaxColumns];
  for (size_t j = 0; j < n; ++j) {
    const uint32_t exponent =
        std::clamp(std::bit_cast<uint32_t>(largest[j]) >> 23, kDroppedBits + 1, 254u);
    unit[j] = PowerOfTwo(exponent - kDroppedBits);
    units[j] = PowerOfTwo(2 * kExponentBias + kDroppedBits - exponent);
    sums[j] = static_cast<int32_t>(std::isfinite(rounded[j]) ? d[j] * units[j] : 0.0f);
  }
  for (size_t k = 0; k < kK; ++k) {
    for (size_t j = 0; j < n; ++j) {
      const float addend = a[k] * b[k * n + j] * units[j];
      sums[j] += static_cast<int32_t>(std::isfinite(rounded[j]) ? addend : 0.0f);
    }
  }
  for (size_t j = 0; j < n; ++j) {
    d[j] = std::isfinite(rounded[j]) ? Truncated(sums[j]) * unit[j] : rounded[j];
  }
}

}  // namespace mea::simt
