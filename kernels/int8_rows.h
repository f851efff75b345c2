#pragma once

#include <cstdint>
#include <cstring>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace mea {

// Numbers as 8-bit integers with a common scale: rows of weights, and keys and values in the cache
// (kernels/paged_kv.h).

// Weights as 8-bit integers, DType::kI8: a matrix [rows, k] whose rows are k integers in [-127,
// 127], padded to four, followed by their common f32 scale. Integers and scale are adjacent, so a
// product reads one stream of memory.

// The offset of a row's scale, and the distance from one row to the next, both in elements of a
// byte.
constexpr int64_t Int8ScaleOffset(int64_t k) { return (k + 3) / 4 * 4; }
constexpr int64_t Int8RowStride(int64_t k) { return Int8ScaleOffset(k) + int64_t{sizeof(float)}; }

inline float Int8Scale(const int8_t* row, int64_t k) {
  float scale;
  std::memcpy(&scale, row + Int8ScaleOffset(k), sizeof(scale));
  return scale;
}

// Host memory for [rows, k], whose pages come at their first use (host_memory.h): all of it is
// written at once, by several threads. RESOURCE_EXHAUSTED names the bytes when there is not enough.
absl::StatusOr<Tensor> AllocateInt8Rows(int64_t rows, int64_t k);

// Rounds k finite floats to the nearest integers of the scale max|x| / 127, ties to even, and
// writes them, followed by the scale.
void QuantizeRow(const float* from, int64_t k, int8_t* row);

// The same for one head's key or value, d <= 1024 elements: the integers and their scale, the next
// BF16 above max|x| / 127, so that none is out of range. An infinity or NaN makes the scale NaN,
// and with it everything computed from the head. `T` is float or double.
template <typename T>
Bf16 QuantizeHead(const T* from, int64_t d, int8_t* to);

// The scales of a slab of an 8-bit cache, one per token.
inline Bf16* SlabScales(int8_t* slab, int64_t page_size, int64_t head_dim) {
  return reinterpret_cast<Bf16*>(slab + page_size * head_dim);
}
inline const Bf16* SlabScales(const int8_t* slab, int64_t page_size, int64_t head_dim) {
  return reinterpret_cast<const Bf16*>(slab + page_size * head_dim);
}

}  // namespace mea
