// Keys and values into their slabs (attention.h), as many tokens at a time as share a tile of keys:
// one alone writes a few bytes into each of the tile's lines.
#if defined(MEA_KERNELS_CPU_STORE_HEADS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_STORE_HEADS_INL_H_
#undef MEA_KERNELS_CPU_STORE_HEADS_INL_H_
#else
#define MEA_KERNELS_CPU_STORE_HEADS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/int4_heads.h"
#include "kernels/int8_rows.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::kTileTokens;

constexpr int kMaxHeadDim = 1024;

// Neighbouring tokens of an op with neighbouring slots in one tile.
struct SlotRun {
  int64_t first_token;
  int64_t count;
  int64_t page;  // negative: a token that is not stored
  int64_t offset;

  // Of the first of `count` slots, and those that follow.
  static SlotRun Of(const int32_t* slots, int64_t count, int64_t token, int page_size) {
    if (slots[0] < 0) return {.first_token = token, .count = 1, .page = -1, .offset = 0};
    const int64_t offset = slots[0] % page_size;
    const int64_t most = std::min<int64_t>(count, kTileTokens - offset % kTileTokens);
    int64_t n = 1;
    while (n < most && slots[n] == slots[0] + n) ++n;
    return {.first_token = token, .count = n, .page = slots[0] / page_size, .offset = offset};
  }
};

// As ToBf16, in the low halves.
HWY_INLINE auto Bf16BitsOf(Vec x) {
  const hn::RebindToUnsigned<F32> d;
  const auto bits = hn::BitCast(d, x);
  const auto high = hn::ShiftRight<16>(bits);
  const auto half = hn::Add(hn::Set(d, 0x7fff), hn::And(high, hn::Set(d, 1)));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, half));
  const auto is_nan = hn::RebindMask(d, hn::Ne(x, x));
  return hn::IfThenElse(is_nan, hn::Or(high, hn::Set(d, 0x40)), rounded);
}

HWY_INLINE void RoundToBf16(const float* x, int64_t count, Bf16* to) {
  const hn::Rebind<int32_t, F32> d32;
  const hn::Rebind<uint16_t, F32> d16;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto bits = hn::BitCast(d32, Bf16BitsOf(LoadWide(x + i)));
    hn::StoreU(hn::DemoteTo(d16, bits), d16, reinterpret_cast<uint16_t*>(to + i));
  }
  for (; i < count; ++i) to[i] = ToBf16(x[i]);
}

// The keys of a run, from [token][n] to [n][token of the tile]. `Unit` is what a token has in a row
// of the tile: an element, or two of them.
template <typename Unit>
HWY_INLINE void TransposeKeys(const void* keys, int64_t n, const SlotRun& run, void* tile) {
  const auto* from = static_cast<const char*>(keys);
  auto* to = static_cast<char*>(tile) + run.offset % kTileTokens * sizeof(Unit);
  const auto rows = [&](int64_t count) HWY_ATTR {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t t = 0; t < count; ++t) {
        std::memcpy(to + (i * kTileTokens + t) * sizeof(Unit), from + (t * n + i) * sizeof(Unit),
                    sizeof(Unit));
      }
    }
  };
  run.count == kTileTokens ? rows(kTileTokens) : rows(run.count);
}

// Keys of one head, in order, until all of a run are there.
template <typename T>
using KeyBuffer = std::array<T, kTileTokens * kMaxHeadDim>;

// Stores a run's keys of one head; key(i, to) writes the i-th of them, as floats.
template <typename Key>
void StoreKeys(const Key& key, const SlotRun& run, const KvSpec& spec, int, float* slab) {
  const int64_t d = spec.head_dim;
  KeyBuffer<float> keys;
  for (int64_t i = 0; i < run.count; ++i) key(i, keys.data() + i * d);
  TransposeKeys<float>(keys.data(), d, run, slab + run.offset / kTileTokens * kTileTokens * d);
}

template <typename Key>
void StoreKeys(const Key& key, const SlotRun& run, const KvSpec& spec, int, Bf16* slab) {
  const int64_t d = spec.head_dim;
  KeyBuffer<Bf16> keys;
  std::array<float, kMaxHeadDim> rotated;
  for (int64_t i = 0; i < run.count; ++i) {
    key(i, rotated.data());
    RoundToBf16(rotated.data(), d, keys.data() + i * d);
  }
  TransposeKeys<uint32_t>(keys.data(), d / 2, run,
                          slab + run.offset / kTileTokens * kTileTokens * d);
}

template <typename Key>
void StoreKeys(const Key& key, const SlotRun& run, const KvSpec& spec, int page_size,
               int8_t* slab) {
  const int64_t d = spec.head_dim;
  KeyBuffer<int8_t> keys;
  std::array<float, kMaxHeadDim> rotated;
  Bf16* const scales = SlabScales(slab, page_size, d) + run.offset;
  for (int64_t i = 0; i < run.count; ++i) {
    key(i, rotated.data());
    scales[i] = QuantizeHead(rotated.data(), d, keys.data() + i * d);
  }
  TransposeKeys<int8_t>(keys.data(), d, run, slab + run.offset / kTileTokens * kTileTokens * d);
}

// The integers of one head's key or value.
using Integers = std::array<uint8_t, kMaxHeadDim>;

HWY_INLINE void QuantizeToInt4(const float* x, int64_t d, int64_t page_size, int64_t token,
                               Int4Pair* slab, Integers& integers) {
  const auto [scale, zero] = QuantizeInt4Head(x, d, integers.data());
  Bf16* const scales = Int4SlabScales(slab, page_size, d);
  scales[token] = scale;
  scales[page_size + token] = zero;
}

template <typename Key>
void StoreKeys(const Key& key, const SlotRun& run, const KvSpec& spec, int page_size,
               Int4Pair* slab) {
  const int64_t d = spec.head_dim;
  const int64_t tile = run.offset / kTileTokens * kTileTokens * KvHeadElements(d, DType::kI4);
  KeyBuffer<uint8_t> pairs;
  std::array<float, kMaxHeadDim> rotated;
  Integers integers;
  for (int64_t i = 0; i < run.count; ++i) {
    key(i, rotated.data());
    QuantizeToInt4(rotated.data(), d, page_size, run.offset + i, slab, integers);
    uint8_t* const to = pairs.data() + i * (d / 2);
    for (int64_t j = 0; j < d / 2; ++j) {
      to[j] = static_cast<uint8_t>(integers[2 * j] | integers[2 * j + 1] << 4);
    }
  }
  TransposeKeys<uint8_t>(pairs.data(), d / 2, run, slab + tile);
}

// Stores a run's values of one head; those of the next token lie `stride` floats behind.
HWY_INLINE void StoreValues(const float* x, int64_t stride, const SlotRun& run, const KvSpec& spec,
                            int, float* slab) {
  const int64_t d = spec.head_dim;
  for (int64_t i = 0; i < run.count; ++i) {
    std::copy_n(x + i * stride, d, slab + (run.offset + i) * d);
  }
}

HWY_INLINE void StoreValues(const float* x, int64_t stride, const SlotRun& run, const KvSpec& spec,
                            int, Bf16* slab) {
  const int64_t d = spec.head_dim;
  const bool paired = cpu::PairsValues(DType::kBf16, d);
  for (int64_t i = 0; i < run.count; x += stride, ++i) {
    const int64_t token = run.offset + i;
    if (!paired) {
      RoundToBf16(x, d, slab + token * d);
    } else if (token % 2 == 0 && i + 1 < run.count) {
      const hn::RebindToUnsigned<F32> words;
      auto* const to = reinterpret_cast<uint32_t*>(slab + token * d);
      for (int64_t j = 0; j < d; j += kLanes) {
        const auto second = hn::ShiftLeft<16>(Bf16BitsOf(LoadWide(x + stride + j)));
        hn::StoreU(hn::Or(Bf16BitsOf(LoadWide(x + j)), second), words, to + j);
      }
      x += stride;
      ++i;
    } else {
      for (int64_t j = 0; j < d; ++j) {
        slab[cpu::ValueOffset(DType::kBf16, token, j, d)] = ToBf16(x[j]);
      }
    }
  }
}

HWY_INLINE void StoreValues(const float* x, int64_t stride, const SlotRun& run, const KvSpec& spec,
                            int page_size, int8_t* slab) {
  const int64_t d = spec.head_dim;
  Bf16* const scales = SlabScales(slab, page_size, d) + run.offset;
  for (int64_t i = 0; i < run.count; ++i) {
    scales[i] = QuantizeHead(x + i * stride, d, slab + (run.offset + i) * d);
  }
}

HWY_INLINE void StoreValues(const float* x, int64_t stride, const SlotRun& run, const KvSpec& spec,
                            int page_size, Int4Pair* slab) {
  const int64_t d = spec.head_dim;
  Integers integers;
  for (int64_t i = 0; i < run.count; ++i) {
    const int64_t token = run.offset + i;
    QuantizeToInt4(x + i * stride, d, page_size, token, slab, integers);
    PackInt4Head(integers.data(), d, slab + token * KvHeadElements(d, DType::kI4));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
