#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/paged_kv.h"

namespace mea {

// Keys and values as 4-bit integers, DType::kI4 in the cache: element i of a head, rotated by
// RotateHadamard, is scale * q_i + zero, 0 <= q_i <= 15.

// Rotates x[d] by an orthonormal symmetric matrix, which undoes itself: a Hadamard matrix for each
// power of two that d is the sum of, the largest first. It spreads outliers over all elements.
template <typename T>
void RotateHadamard(T* x, int64_t d);

struct Int4HeadScale {
  Bf16 scale;
  Bf16 zero;
};
// The integers of one head's key or value, d <= 1024 elements, rotated here: the zero is the next
// BF16 below the least element, the scale the next one above (greatest - zero) / 15, so that none
// is out of range. An infinity or NaN, or what overflows, makes both NaN, and with them everything
// computed from the head. `T` is float or double.
template <typename T>
Int4HeadScale QuantizeInt4Head(const T* from, int64_t d, uint8_t* to);

// Two integers to a byte: element b of 32 in the low half, element b + 16 in the high half.
void PackInt4Head(const uint8_t* from, int64_t d, Int4Pair* to);

// The scales of a slab of a 4-bit cache, one per token; as many zeros lie behind them.
inline Bf16* Int4SlabScales(Int4Pair* slab, int64_t page_size, int64_t d) {
  return reinterpret_cast<Bf16*>(slab + page_size * KvHeadElements(d, DType::kI4));
}
inline const Bf16* Int4SlabScales(const Int4Pair* slab, int64_t page_size, int64_t d) {
  return reinterpret_cast<const Bf16*>(slab + page_size * KvHeadElements(d, DType::kI4));
}

}  // namespace mea
