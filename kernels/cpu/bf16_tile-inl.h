// The products of tile-inl.h and compose_tile-inl.h by dot products of BF16 pairs: one instruction
// (vdpbf16ps) adds the two products of each of 16 pairs to a float, 32 multiply-adds where an FMA
// of floats does 16, and reads the pairs as they lie in the cache.
#if defined(MEA_KERNELS_CPU_BF16_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_BF16_TILE_INL_H_
#undef MEA_KERNELS_CPU_BF16_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_BF16_TILE_INL_H_
#endif

#include "kernels/cpu/compose_tile-inl.h"
#include "kernels/cpu/tile-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
namespace mea {
namespace HWY_NAMESPACE {

template <typename Rows>
concept DotRows = std::is_same_v<Rows, const DotBf16*>;

// The elements of a vector of pairs that are used: all, or the first of each pair where the second
// may be a token that does not exist.
constexpr __mmask32 kWholePairs = 0xffffffff;
constexpr __mmask32 kFirstsOfPairs = 0x55555555;

HWY_INLINE __m512bh LoadPairs(const DotBf16* pairs) { return (__m512bh)_mm512_loadu_si512(pairs); }
HWY_INLINE __m512i LoadPairs(__mmask32 used, const DotBf16* pairs) {
  return _mm512_maskz_loadu_epi16(used, pairs);
}
HWY_INLINE __m512bh Everywhere(const float* pair) { return (__m512bh)_mm512_set1_ps(*pair); }

// To BF16 pairs; a last element without a partner gets a zero.
template <>
inline void RoundOperand<DotBf16>(float* row, int count) {
  int i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512bh pairs =
        _mm512_cvtne2ps_pbh(_mm512_loadu_ps(row + i + 16), _mm512_loadu_ps(row + i));
    _mm512_storeu_si512(row + i / 2, (__m512i)pairs);
  }
  if (i == count) return;
  const uint32_t there = (uint32_t{1} << (count - i)) - 1;
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there), row + i);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> 16), row + i + 16);
  const auto words = static_cast<__mmask16>((uint32_t{1} << (count - i + 1) / 2) - 1);
  _mm512_mask_storeu_epi32(row + i / 2, words, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// One register block, as MultiplyBlock. The rows of A hold pairs.
template <int kRows, int kTiles, bool kAccumulate, typename B>
HWY_INLINE void MultiplyPairsBlock(const float* a, int64_t a_stride, int k, const B& tiles,
                                   int first_tile, float* c, int64_t c_stride) {
  __m512 sum[kRows][kTiles];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      sum[r][t] =
          kAccumulate ? _mm512_loadu_ps(c + r * c_stride + t * kTileColumns) : _mm512_setzero_ps();
    }
  }
  const DotBf16* b[kTiles];
  for (int t = 0; t < kTiles; ++t) b[t] = tiles.tile(first_tile + t);
  const auto step = [&](const float* pairs, int64_t offset, __mmask32 used) HWY_ATTR {
    __m512bh columns[kTiles];
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      if constexpr (B::kPrefetch) hwy::Prefetch(b[t] + offset + tiles.ahead);
      columns[t] =
          used == kWholePairs ? LoadPairs(b[t] + offset) : (__m512bh)LoadPairs(used, b[t] + offset);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = Everywhere(pairs + r * a_stride);
#pragma GCC unroll 4
      for (int t = 0; t < kTiles; ++t) sum[r][t] = _mm512_dpbf16_ps(sum[r][t], value, columns[t]);
    }
  };
  int64_t offset = 0;
  for (int i = 0; i < k / 2; ++i, ++a, offset += tiles.stride) step(a, offset, kWholePairs);
  if (k % 2 != 0) step(a, offset, kFirstsOfPairs);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      _mm512_storeu_ps(c + r * c_stride + t * kTileColumns, sum[r][t]);
    }
  }
}

// C[num_rows, tiles.count * 16] = A[num_rows, k] B (added to C where kAccumulate).
template <bool kAccumulate, typename B>
requires DotRows<typename B::Rows>
void Multiply(const float* a, int64_t a_stride, int num_rows, int k, const B& tiles, float* c,
              int64_t c_stride) {
  constexpr int kMostRows = 6;
  const auto columns = [&](auto rows, auto count, int tile) HWY_ATTR {
    MultiplyPairsBlock<decltype(rows)::value, decltype(count)::value, kAccumulate>(
        a, a_stride, k, tiles, tile, c + tile * kTileColumns, c_stride);
    return tile + decltype(count)::value;
  };
  for (int row = 0; row < num_rows; row += kMostRows) {
    WithCount<kMostRows>(std::min(kMostRows, num_rows - row), [&](auto rows) HWY_ATTR {
      int t = 0;
      while (t + 4 <= tiles.count) t = columns(rows, std::integral_constant<int, 4>(), t);
      while (t + 2 <= tiles.count) t = columns(rows, std::integral_constant<int, 2>(), t);
      while (t < tiles.count) t = columns(rows, std::integral_constant<int, 1>(), t);
    });
    a += kMostRows * a_stride;
    c += kMostRows * c_stride;
  }
}

// As MultiplyHeadsBlock.
template <int kHeads, bool kAccumulate>
HWY_INLINE void MultiplyPairsOfHeads(const float* const* a, int k, const DotBf16* const* b,
                                     int64_t stride, int64_t ahead, float* const* c) {
  __m512 sum[kHeads];
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h) {
    sum[h] = kAccumulate ? _mm512_loadu_ps(c[h]) : _mm512_setzero_ps();
  }
  int64_t offset = 0;
  for (int i = 0; i < k / 2; ++i, offset += stride, ahead += kCacheLine) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      hwy::Prefetch(reinterpret_cast<const char*>(b[h]) + ahead);
      sum[h] = _mm512_dpbf16_ps(sum[h], Everywhere(a[h] + i), LoadPairs(b[h] + offset));
    }
  }
  if (k % 2 != 0) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      sum[h] = _mm512_dpbf16_ps(sum[h], Everywhere(a[h] + k / 2),
                                (__m512bh)LoadPairs(kFirstsOfPairs, b[h] + offset));
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h) _mm512_storeu_ps(c[h], sum[h]);
}

template <bool kAccumulate>
void MultiplyHeads(int num_heads, const float* const* a, int k, const DotBf16* const* b,
                   int64_t stride, int64_t ahead, float* const* c) {
  int h = 0;
  const auto heads = [&](auto count) HWY_ATTR {
    constexpr int kHeads = decltype(count)::value;
    for (; h + kHeads <= num_heads; h += kHeads) {
      MultiplyPairsOfHeads<kHeads, kAccumulate>(a + h, k, b + h, stride, ahead, c + h);
    }
  };
  static_assert(kHeadsTogether == 8);
  heads(std::integral_constant<int, 8>());
  heads(std::integral_constant<int, 2>());
  heads(std::integral_constant<int, 1>());
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_POP_ATTRIBUTES
#endif

#endif
