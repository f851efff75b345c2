#pragma once

#include <array>
#include <vector>

#include "kernels/int4_heads.h"
#include "kernels/int8_rows.h"
#include "kernels/reference/elements.h"

namespace mea::reference {

// Keys and values in the cache, here in token order.

// Where one token lives in the cache.
struct KvSlot {
  int64_t page;
  int64_t offset;
};

inline void StoreHead(const TensorView& slabs, KvSlot slot, int64_t head,
                      const std::vector<double>& x) {
  const auto d = static_cast<int64_t>(x.size());
  const int64_t page_size = slabs.shape[2];
  const int64_t slab = Offset(slabs, slot.page, head);
  const int64_t offset = Offset(slabs, slot.page, head, slot.offset);
  if (slabs.dtype == DType::kI8) {
    SlabScales(slabs.as<int8_t>() + slab, page_size, d)[slot.offset] =
        QuantizeHead(x.data(), d, slabs.as<int8_t>() + offset);
    return;
  }
  if (slabs.dtype == DType::kI4) {
    std::array<uint8_t, 1024> integers;
    const auto [scale, zero] = QuantizeInt4Head(x.data(), d, integers.data());
    PackInt4Head(integers.data(), d, slabs.as<Int4Pair>() + offset);
    Bf16* const scales = Int4SlabScales(slabs.as<Int4Pair>() + slab, page_size, d);
    scales[slot.offset] = scale;
    scales[page_size + slot.offset] = zero;
    return;
  }
  for (int64_t i = 0; i < d; ++i) Store(slabs, offset + i, x[i]);
}

// As stored: in 4 bits rotated.
inline std::vector<double> LoadHead(const TensorView& slabs, KvSlot slot, int64_t head) {
  const int64_t page_size = slabs.shape[2];
  const int64_t d = slabs.shape[3];
  const int64_t slab = Offset(slabs, slot.page, head);
  const int64_t offset = Offset(slabs, slot.page, head, slot.offset);
  if (slabs.dtype != DType::kI8 && slabs.dtype != DType::kI4) return LoadRow(slabs, offset, d);
  std::vector<double> x(d);
  if (slabs.dtype == DType::kI8) {
    const int8_t* const integers = slabs.as<int8_t>() + offset;
    const double scale = ToFloat(SlabScales(slabs.as<int8_t>() + slab, page_size, d)[slot.offset]);
    for (int64_t i = 0; i < d; ++i) x[i] = scale * integers[i];
    return x;
  }
  const Int4Pair* const pairs = slabs.as<Int4Pair>() + offset;
  const Bf16* const scales = Int4SlabScales(slabs.as<Int4Pair>() + slab, page_size, d);
  const double scale = ToFloat(scales[slot.offset]);
  const double zero = ToFloat(scales[page_size + slot.offset]);
  for (int64_t i = 0; i < d; ++i) {
    const int bits = pairs[i / 32 * 16 + i % 16].bits;
    x[i] = scale * (i % 32 < 16 ? bits & 15 : bits >> 4) + zero;
  }
  return x;
}

// Rotates what meets keys, or what values made, of this format; twice is not at all.
inline void RotateFor(DType dtype, std::vector<double>& x) {
  if (dtype == DType::kI4) RotateHadamard(x.data(), static_cast<int64_t>(x.size()));
}

}  // namespace mea::reference
