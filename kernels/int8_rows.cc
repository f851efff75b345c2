#include "kernels/int8_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace mea {
namespace {

constexpr float kLargest = 127;

}  // namespace

absl::StatusOr<Tensor> AllocateInt8Rows(int64_t rows, int64_t k) {
  const std::array<int64_t, 2> shape = {rows, Int8RowStride(k)};
  absl::StatusOr<Tensor> tensor = Tensor::AllocateHost(shape, DType::kI8);
  if (!tensor.ok()) return tensor.status();
  const TensorView view = tensor->view().Columns(0, k);
  return Tensor(view, std::make_shared<Tensor>(*std::move(tensor)));
}

void QuantizeRow(const float* from, int64_t k, int8_t* row) {
  float largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::abs(from[i]));
  const float scale = largest / kLargest;
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (int64_t i = 0; i < k; ++i) {
    const float rounded = std::nearbyint(from[i] * inverse);
    row[i] = static_cast<int8_t>(std::clamp(rounded, -kLargest, kLargest));
  }
  const int64_t padded = (k + 3) / 4 * 4;
  std::fill(row + k, row + padded, 0);
  std::memcpy(row + padded, &scale, sizeof(scale));
}

// In float32 whatever T is, so that back ends of both kinds store the same integers.
template <typename T>
Bf16 QuantizeHead(const T* from, int64_t d, int8_t* to) {
  float largest = 0;
  for (int64_t i = 0; i < d; ++i)
    largest = std::max(largest, std::abs(static_cast<float>(from[i])));
  const auto exact = std::bit_cast<uint32_t>(largest / kLargest);
  const Bf16 scale{static_cast<uint16_t>((exact + 0xffffu) >> 16)};
  const float inverse = scale.bits > 0 ? 1 / ToFloat(scale) : 0;
  for (int64_t i = 0; i < d; ++i) {
    const float rounded = std::nearbyint(static_cast<float>(from[i]) * inverse);
    to[i] = static_cast<int8_t>(std::clamp(rounded, -kLargest, kLargest));
  }
  return scale;
}

template Bf16 QuantizeHead(const float* from, int64_t d, int8_t* to);
template Bf16 QuantizeHead(const double* from, int64_t d, int8_t* to);

}  // namespace mea
