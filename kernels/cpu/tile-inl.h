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

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

constexpr int kTileColumns = 16;
constexpr int kTileVecs = kTileColumns / kLanes;
// The number of accumulators that leaves enough registers for the operands.
constexpr int kMaxAccumulators = kLanes == 16 ? 24 : 12;
constexpr int kMaxTileRows = std::max(1, kMaxAccumulators / (kLanes == 16 ? 2 : kTileVecs));

// How many adjacent tiles give `rows` rows enough independent accumulators.
constexpr int TilesFor(int rows) {
  const int fit = kMaxAccumulators / (rows * kTileVecs);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

// The layout of rows of B in memory. Floats: one row of k after the other. BF16: rows in pairs,
// element by element (k even, k odd), which LoadHalf widens without shuffles. `stride` separates
// rows, or pairs.
template <typename T>
inline constexpr int kRowsTogether = 1;
template <>
inline constexpr int kRowsTogether<Bf16> = 2;

// BF16 rows that are not paired.
struct PlainBf16 {
  Bf16 value;
};

// BF16 rows in pairs that are multiplied as they are, by dot products (bf16_tile-inl.h). A is then
// rounded to BF16 as well: one of its words, a float elsewhere, holds a pair of elements.
struct DotBf16 {
  Bf16 value;
};
template <>
inline constexpr int kRowsTogether<DotBf16> = 2;

// Elements of A in a word.
template <typename T>
inline constexpr int kWordElements = std::is_same_v<T, DotBf16> ? 2 : 1;

// Makes `count` floats a row of A, in place, for rows of B that hold T.
template <typename T>
HWY_INLINE void RoundOperand(float* /*row*/, int /*count*/) {}

// A pointer to rows of B: their first element, a const T*; for an 8-bit cache also the scales, one
// per column (keys: per token) or one per row (values).
struct ColumnScaled {
  const int8_t* data;
  const float* scales;
};
struct RowScaled {
  const int8_t* data;
  const float* scales;
};

template <typename T>
HWY_INLINE const T* DataOf(const T* rows) {
  return rows;
}
template <typename Rows>
HWY_INLINE const int8_t* DataOf(const Rows& rows) {
  return rows.data;
}
template <typename Rows>
using ElementOf = std::remove_cvref_t<decltype(*DataOf(std::declval<Rows>()))>;

// The same rows from another column on, or those of another head: `elements` further, with scales
// `scales` further.
template <typename T>
HWY_INLINE const T* Behind(const T* rows, int64_t elements, int64_t /*scales*/) {
  return rows + elements;
}
template <typename Rows>
HWY_INLINE Rows Behind(const Rows& rows, int64_t elements, int64_t scales) {
  return {.data = rows.data + elements, .scales = rows.scales + scales};
}

// Elements of row `row` from `column` on; `at` is the beginning of the row, or of its pair.
template <int kHalf, typename T>
HWY_INLINE Vec LoadColumns(const T* rows, int64_t at, int /*row*/, int column) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return LoadHalf<kHalf == 1>(rows + at + 2 * column);
  } else if constexpr (std::is_same_v<T, PlainBf16>) {
    return LoadWide(&rows[at + column].value);
  } else {
    return LoadWide(rows + at + column);
  }
}
template <int kHalf>
HWY_INLINE Vec LoadColumns(const ColumnScaled& rows, int64_t at, int /*row*/, int column) {
  return hn::Mul(LoadWide(rows.data + at + column), LoadWide(rows.scales + column));
}
template <int kHalf>
HWY_INLINE Vec LoadColumns(const RowScaled& rows, int64_t at, int row, int column) {
  return hn::Mul(LoadWide(rows.data + at + column), hn::Set(F32(), rows.scales[row]));
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
  constexpr int kRowsPerLine = kCacheLine / (kTileColumns * sizeof(T));
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
