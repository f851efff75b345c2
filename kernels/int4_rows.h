#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace mea {

// Weights as 4-bit integers, DType::kI4: element i of a row is
//
//   scale(row) * scale(group of i) * (q_i - zero(group of i)),   0 <= q_i <= 15
//
// which a float32 holds exactly. A row is one stretch of memory:
//
//   blocks   of kInt4Block elements, the last one padded: byte b holds element b in its low half
//            and element b + 16 in its high half
//   groups   an Int4Group each
//   a float  the scale of the row, a power of two where the loader makes it: it keeps the scales of
//            the groups within the range of F16

inline constexpr int kInt4Block = 32;
inline constexpr int kInt4BlockBytes = kInt4Block / 2;

// The groups of matrices that are rounded at load; chosen by figures (kernels/cpu/README.md).
inline constexpr int kInt4Group = 64;
inline constexpr int kMaxInt4Group = 128;

struct Int4Group {
  F16 scale;
  int16_t zero;  // -16..31
};

// What all rows of a matrix have in common.
struct Int4Layout {
  int group = kInt4Group;  // elements that share a scale: 32, 64 or 128
  // Where it is not empty, the i-th element of a row meets x[order[i]]: GPTQ puts the columns that
  // matter most into the same groups.
  std::vector<int32_t> order;
};

constexpr int64_t Int4Blocks(int64_t k) { return (k + kInt4Block - 1) / kInt4Block; }
constexpr int64_t Int4Groups(int64_t k, int group) { return (k + group - 1) / group; }
constexpr int64_t Int4GroupsOffset(int64_t k) { return Int4Blocks(k) * kInt4BlockBytes; }
constexpr int64_t Int4ScaleOffset(int64_t k, int group) {
  return Int4GroupsOffset(k) + Int4Groups(k, group) * int64_t{sizeof(Int4Group)};
}
// From one row to the next, in bytes.
constexpr int64_t Int4RowStride(int64_t k, int group = kInt4Group) {
  return Int4ScaleOffset(k, group) + int64_t{sizeof(float)};
}

inline const Int4Group* Int4GroupsOf(const Int4Pair* row, int64_t k) {
  return reinterpret_cast<const Int4Group*>(row + Int4GroupsOffset(k));
}
inline float Int4Scale(const Int4Pair* row, int64_t k, int group) {
  float scale;
  std::memcpy(&scale, row + Int4ScaleOffset(k, group), sizeof(scale));
  return scale;
}

// Host memory for [rows, k]; RESOURCE_EXHAUSTED names the bytes when there is not enough.
absl::StatusOr<Tensor> AllocateInt4Rows(int64_t rows, int64_t k, Int4Layout layout = {});

// Writes one row: its integers, in the order of memory, its groups and its scale.
void StoreInt4Row(std::span<const uint8_t> integers, std::span<const Int4Group> groups, float scale,
                  Int4Pair* row);

// Rounds k finite floats: for each group the scale and the zero of least squared error among some
// that lie around its range.
void QuantizeInt4Row(const float* from, int64_t k, int group, Int4Pair* row);

// Row i of a matrix, in the order of x. `T` is float or double.
template <typename T>
void WidenInt4Row(const TensorView& matrix, int64_t i, T* to);

}  // namespace mea
