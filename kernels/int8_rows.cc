#include "kernels/int8_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/host_memory.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr float kLargest = 127;

// The largest magnitude as the bits of a float, whose order is that of integers: an infinity is
// larger than all numbers, a NaN larger still.
template <typename T>
uint32_t LargestBits(const T* from, int64_t count) {
  constexpr int64_t kLanes = 16;  // side by side, of which a compiler makes vectors
  std::array<int32_t, kLanes> lanes{};
  const auto raise = [](int32_t& largest, T x) {
    const auto bits = std::bit_cast<int32_t>(std::abs(static_cast<float>(x)));
    largest = bits > largest ? bits : largest;
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) raise(lanes[lane], from[i + lane]);
  }
  for (; i < count; ++i) raise(lanes[0], from[i]);
  return static_cast<uint32_t>(*std::max_element(lanes.begin(), lanes.end()));
}

// In float32 for every T, so that back ends of both kinds store the same integers.
template <typename T>
void RoundToScale(const T* from, int64_t count, float scale, int8_t* to) {
  // Adding it leaves no bits for a fraction: this rounds to nearest, ties to even, without a call.
  constexpr float kNoFraction = 0x1.8p23f;
  // The inverse of a smaller one may be infinite, so it counts as zero.
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
  for (int64_t i = 0; i < count; ++i) {
    const float rounded = (static_cast<float>(from[i]) * inverse + kNoFraction) - kNoFraction;
    to[i] = static_cast<int8_t>(std::clamp(rounded, -kLargest, kLargest));
  }
}

}  // namespace

absl::StatusOr<Tensor> AllocateInt8Rows(int64_t rows, int64_t k) {
  const std::array<int64_t, 2> shape = {rows, Int8RowStride(k)};
  MEA_ASSIGN_OR_RETURN(Tensor tensor, AllocateHostTensor(shape, DType::kI8, Presence::kAtUse));
  const TensorView view = tensor.view().Columns(0, k);
  return Tensor(view, std::make_shared<Tensor>(std::move(tensor)));
}

void QuantizeRow(const float* from, int64_t k, int8_t* row) {
  const float scale = std::bit_cast<float>(LargestBits(from, k)) / kLargest;
  RoundToScale(from, k, scale, row);
  std::fill(row + k, row + Int8ScaleOffset(k), 0);
  std::memcpy(row + Int8ScaleOffset(k), &scale, sizeof(scale));
}

template <typename T>
Bf16 QuantizeHead(const T* from, int64_t d, int8_t* to) {
  const auto largest = std::bit_cast<float>(LargestBits(from, d));
  if (!std::isfinite(largest)) {
    std::fill_n(to, d, int8_t{0});
    return ToBf16(std::numeric_limits<float>::quiet_NaN());
  }
  const auto exact = std::bit_cast<uint32_t>(largest / kLargest);
  const Bf16 scale{static_cast<uint16_t>((exact + 0xffffu) >> 16)};
  RoundToScale(from, d, ToFloat(scale), to);
  return scale;
}

template Bf16 QuantizeHead(const float* from, int64_t d, int8_t* to);
template Bf16 QuantizeHead(const double* from, int64_t d, int8_t* to);

}  // namespace mea
