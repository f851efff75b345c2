// The matrix product inside attention: C[rows, 16 columns] += A[rows, k] B[k, 16 columns], used for
// scores and for weighted values.
#if defined(MEA_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_TILE_INL_H_
#undef MEA_KERNELS_CPU_TILE_INL_H_
#else
#define MEA_KERNELS_CPU_TILE_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels/cpu/simd-inl.h"
#include "kernels/cpu/tile_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// The number of accumulators that leaves enough registers for the operands.
constexpr int kMaxAccumulators = kLanes == 16 ? 24 : 12;
constexpr int kMaxTileRows = std::max(1, kMaxAccumulators / (kLanes == 16 ? 2 : kTileVecs));

// How many adjacent tiles give `rows` rows enough independent accumulators.
constexpr int TilesFor(int rows) {
  const int fit = kMaxAccumulators / (rows * kTileVecs);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

// Calls step(half, row of k, offset of that row's memory) for all k rows in order.
template <typename T, typename Step>
HWY_INLINE void ForRowsOfK(int k, int64_t stride, Step step) {
  constexpr std::integral_constant<int, 0> kFirst;
  constexpr std::integral_constant<int, 1> kSecond;
  int64_t offset = 0;
  int i = 0;
  for (; i + kRowsTogether<T> <= k; i += kRowsTogether<T>, offset += stride) {
    step(kFirst, i, offset);
    if constexpr (kRowsTogether<T> == 2) step(kSecond, i + 1, offset);
  }
  // The partner of an odd last row may be a token that does not exist: it is not used.
  if (i < k) step(kFirst, i, offset);
}

// Calls call(n) with a constant equal to `count`, in [1, kMost].
template <int kMost, typename Call>
HWY_INLINE void WithCount(int count, Call call) {
  if constexpr (kMost > 1) {
    if (count < kMost) return WithCount<kMost - 1>(count, call);
  }
  call(std::integral_constant<int, kMost>());
}

// The location of B: tile(i) is row 0 of the i-th tile. With kPrefetch, the elements `ahead` after
// each are prefetched, as the ones needed next.
template <bool kPrefetchAhead, typename TileFn>
struct Tiles {
  static constexpr bool kPrefetch = kPrefetchAhead;
  using Rows = decltype(std::declval<TileFn>()(0));
  TileFn tile;
  int count;
  int64_t stride;
  int64_t ahead;
};

template <typename TileFn>
HWY_INLINE Tiles<false, TileFn> InScratch(TileFn tile, int count, int64_t stride) {
  return {.tile = tile, .count = count, .stride = stride, .ahead = 0};
}
template <typename TileFn>
HWY_INLINE Tiles<true, TileFn> InCache(TileFn tile, int count, int64_t stride, int64_t ahead) {
  return {.tile = tile, .count = count, .stride = stride, .ahead = ahead};
}

// A step of MultiplyBlock for values in 4 bits: two tiles are the halves of the same bytes, since
// blocks of an even number of tiles begin at an even one.
template <int kRows, int kTiles>
HWY_INLINE void MulAddInt4Tiles(const float* a, int64_t a_stride, const PlainInt4Columns& first,
                                int64_t offset, Vec (&sum)[kRows][kTiles * kTileVecs]) {
  const F32 d;
  const hn::Rebind<uint8_t, F32> d8;
  const hn::Rebind<int32_t, F32> d32;
  const Int4Columns* bytes = first.data + offset + first.first_column / 2;
#pragma GCC unroll 4
  for (int tile = 0; tile < kTiles; tile += 2, bytes += kTileColumns) {
#pragma GCC unroll 16
    for (int v = 0; v < kTileVecs; ++v) {
      const auto bits = hn::PromoteTo(d32, hn::LoadU(d8, &bytes[v * kLanes].bits));
      const Vec low = hn::ConvertTo(d, hn::And(bits, hn::Set(d32, 15)));
      const Vec high = hn::ConvertTo(d, hn::ShiftRight<4>(bits));
      const int at = tile * kTileVecs + v;
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const Vec value = hn::Set(d, a[r * a_stride]);
        sum[r][at] = hn::MulAdd(value, low, sum[r][at]);
        sum[r][at + kTileVecs] = hn::MulAdd(value, high, sum[r][at + kTileVecs]);
      }
    }
  }
}

// One register block: kRows rows of A against kTiles tiles of B. Every element of C is one chain of
// multiply-adds in the order of k, whatever the block.
template <int kRows, int kTiles, bool kAccumulate, typename B>
HWY_INLINE void MultiplyBlock(const float* a, int64_t a_stride, int k, const B& tiles,
                              int first_tile, float* c, int64_t c_stride) {
  using Rows = typename B::Rows;
  using T = ElementOf<Rows>;
  constexpr int kVecs = kTiles * kTileVecs;
  const F32 d;
  Vec sum[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      sum[r][v] = kAccumulate ? hn::LoadU(d, c + r * c_stride + v * kLanes) : hn::Zero(d);
    }
  }
  Rows b[kTiles];
  for (int t = 0; t < kTiles; ++t) b[t] = tiles.tile(first_tile + t);
  const auto step = [&](auto half, int i, int64_t offset) HWY_ATTR {
    // Here and not in a function of its own: GCC drops calls that do nothing but prefetch.
    if constexpr (B::kPrefetch && decltype(half)::value == 0) {
      for (int t = 0; t < kTiles; ++t) hwy::Prefetch(DataOf(b[t]) + offset + tiles.ahead);
    }
    if constexpr (std::is_same_v<Rows, PlainInt4Columns> && kTiles % 2 == 0) {
      MulAddInt4Tiles<kRows, kTiles>(a + i, a_stride, b[0], offset, sum);
      return;
    }
    const auto column = [&](int v) HWY_ATTR {
      return LoadColumns<decltype(half)::value>(b[v / kTileVecs], offset, i,
                                                v % kTileVecs * kLanes);
    };
    if constexpr (kRows <= 2) {  // the values are few: hold them, and one column at a time
      Vec values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = hn::Set(d, a[r * a_stride + i]);
      for (int v = 0; v < kVecs; ++v) {
        const Vec one = column(v);
        for (int r = 0; r < kRows; ++r) sum[r][v] = hn::MulAdd(values[r], one, sum[r][v]);
      }
    } else {
      Vec columns[kVecs];
      for (int v = 0; v < kVecs; ++v) columns[v] = column(v);
      for (int r = 0; r < kRows; ++r) {
        const Vec value = hn::Set(d, a[r * a_stride + i]);
        for (int v = 0; v < kVecs; ++v) sum[r][v] = hn::MulAdd(value, columns[v], sum[r][v]);
      }
    }
  };
  ForRowsOfK<T>(k, tiles.stride, step);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) hn::StoreU(sum[r][v], d, c + r * c_stride + v * kLanes);
  }
}

// All register blocks of `kRows` rows that fit; returns the first row left over.
template <int kRows, bool kAccumulate, typename B>
HWY_INLINE int MultiplyRows(const float* a, int64_t a_stride, int row, int num_rows, int k,
                            const B& tiles, float* c, int64_t c_stride) {
  if constexpr (kRows <= kMaxTileRows) {
    constexpr int kTiles = TilesFor(kRows);
    for (; row + kRows <= num_rows; row += kRows) {
      const float* a_rows = a + row * a_stride;
      float* c_rows = c + row * c_stride;
      int t = 0;
      for (; t + kTiles <= tiles.count; t += kTiles) {
        MultiplyBlock<kRows, kTiles, kAccumulate>(a_rows, a_stride, k, tiles, t,
                                                  c_rows + t * kTileColumns, c_stride);
      }
      if constexpr (kTiles > 1) {
        for (; t < tiles.count; ++t) {
          MultiplyBlock<kRows, 1, kAccumulate>(a_rows, a_stride, k, tiles, t,
                                               c_rows + t * kTileColumns, c_stride);
        }
      }
    }
  }
  return row;
}

// C[num_rows, tiles.count * 16] = A[num_rows, k] B (added to C where kAccumulate).
template <bool kAccumulate, typename B>
HWY_INLINE void Multiply(const float* a, int64_t a_stride, int num_rows, int k, const B& tiles,
                         float* c, int64_t c_stride) {
  const auto rows = [&](auto count, int row) HWY_ATTR {
    return MultiplyRows<decltype(count)::value, kAccumulate>(a, a_stride, row, num_rows, k, tiles,
                                                             c, c_stride);
  };
  int row = rows(std::integral_constant<int, 12>(), 0);
  row = rows(std::integral_constant<int, 6>(), row);
  row = rows(std::integral_constant<int, 4>(), row);
  row = rows(std::integral_constant<int, 3>(), row);
  row = rows(std::integral_constant<int, 2>(), row);
  rows(std::integral_constant<int, 1>(), row);
}

constexpr int64_t kCacheLine = 64;
// Heads that MultiplyHeads processes at a time: enough independent accumulators, and as many
// distant streams of memory.
constexpr int kHeadsTogether = kTileVecs > 8 ? 1 : 8 / kTileVecs;

// One row for each of kHeads heads, each against a tile of its own: c[h][16 columns] = sum_k
// a[h][k] * b[h][k, 16 columns], rows of B `stride` apart (added to C where kAccumulate). Also
// prefetches the memory that begins `ahead` bytes after each tile, as long as 16 columns of all
// rows.
template <int kHeads, bool kAccumulate, typename Rows>
HWY_INLINE void MultiplyHeadsBlock(const float* const* a, int k, const Rows* b, int64_t stride,
                                   int64_t ahead, float* const* c) {
  using T = ElementOf<Rows>;
  constexpr int kRowsPerLine = kCacheLine / kTileRowBytes<T>;
  const F32 d;
  Vec sum[kHeads][kTileVecs];
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kTileVecs; ++v) {
      sum[h][v] = kAccumulate ? hn::LoadU(d, c[h] + v * kLanes) : hn::Zero(d);
    }
  }
  const auto step = [&](auto half, int i, int64_t offset) HWY_ATTR {
    constexpr int kHalf = decltype(half)::value;
    // Here and not in a function of its own: GCC drops calls that do nothing but prefetch.
    if (i % kRowsPerLine == 0) {
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        hwy::Prefetch(reinterpret_cast<const char*>(DataOf(b[h])) + ahead);
      }
      ahead += kCacheLine;
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const Vec value = hn::Set(d, a[h][i]);
      for (int v = 0; v < kTileVecs; ++v) {
        const Vec column = LoadColumns<kHalf>(b[h], offset, i, v * kLanes);
        sum[h][v] = hn::MulAdd(value, column, sum[h][v]);
      }
    }
  };
  ForRowsOfK<T>(k, stride, step);
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kTileVecs; ++v) hn::StoreU(sum[h][v], d, c[h] + v * kLanes);
  }
}

// The same for up to kHeadsTogether heads.
template <bool kAccumulate, typename Rows>
HWY_INLINE void MultiplyHeads(int num_heads, const float* const* a, int k, const Rows* b,
                              int64_t stride, int64_t ahead, float* const* c) {
  int h = 0;
  const auto heads = [&](auto count) HWY_ATTR {
    constexpr int kHeads = decltype(count)::value;
    for (; h + kHeads <= num_heads; h += kHeads) {
      MultiplyHeadsBlock<kHeads, kAccumulate>(a + h, k, b + h, stride, ahead, c + h);
    }
  };
  heads(std::integral_constant<int, kHeadsTogether>());
  if constexpr (kHeadsTogether > 2) heads(std::integral_constant<int, 2>());
  if constexpr (kHeadsTogether > 1) heads(std::integral_constant<int, 1>());
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
