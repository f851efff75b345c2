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

// Keys in 4 bits, a pair of rows in the halves of its bytes.
template <>
inline constexpr int kRowsTogether<Int4Pair> = 2;

// Values in 4 bits: columns i and i + 16 of 32 in the halves of a byte.
struct Int4Columns {
  uint8_t bits;
};
template <typename T>
inline constexpr bool kIsInt4 = std::is_same_v<T, Int4Pair> || std::is_same_v<T, Int4Columns>;

// Elements that kRowsTogether rows take in a column of a tile, and the bytes of one row of a tile.
template <typename T>
inline constexpr int kColumnElements = kIsInt4<T> ? 1 : kRowsTogether<T>;
template <typename T>
inline constexpr int kTileRowBytes = kIsInt4<T> ? kTileColumns / 2 : kTileColumns * sizeof(T);

// Elements of A in a word.
template <typename T>
inline constexpr int kWordElements = std::is_same_v<T, DotBf16> ? 2 : 1;

// Makes `count` floats a row of A, in place, for rows of B that hold T.
template <typename T>
HWY_INLINE void RoundOperand(float* /*row*/, int /*count*/) {}

// A pointer to rows of B: their first element, a const T*; for a cache of integers also the scales,
// one per column (keys: per token) or one per row (values), and in 4 bits the zeros. The integers
// alone serve heads that are not mixed: scales and zeros then meet scores and weights.
struct ColumnScaled {
  const int8_t* data;
  const float* scales;
};
struct RowScaled {
  const int8_t* data;
  const float* scales;
};

struct ColumnScaledInt4 {
  const Int4Pair* data;
  const float* scales;
  const float* zeros;
};
struct RowScaledInt4 {
  const Int4Columns* data;
  const float* scales;
  const float* zeros;
  int first_column;
};
struct PlainInt4Columns {
  const Int4Columns* data;
  int first_column;
};

template <typename T>
HWY_INLINE const T* DataOf(const T* rows) {
  return rows;
}
template <typename Rows>
HWY_INLINE auto DataOf(const Rows& rows) {
  return rows.data;
}
template <typename Rows>
using ElementOf = std::remove_cvref_t<decltype(*DataOf(std::declval<Rows>()))>;

// The same rows of another head: `elements` further, with scales `scales` further.
template <typename T>
HWY_INLINE const T* Behind(const T* rows, int64_t elements, int64_t /*scales*/) {
  return rows + elements;
}
template <typename Rows>
HWY_INLINE Rows Behind(Rows rows, int64_t elements, int64_t scales) {
  rows.data += elements;
  if constexpr (requires { rows.scales; }) rows.scales += scales;
  if constexpr (requires { rows.zeros; }) rows.zeros += scales;
  return rows;
}

// The same rows `columns` further, a multiple of 16.
template <typename Rows>
HWY_INLINE Rows FromColumn(Rows rows, int columns) {
  if constexpr (requires { rows.first_column; }) {
    rows.first_column += columns;
    return rows;
  } else {
    return Behind(rows, columns * kColumnElements<ElementOf<Rows>>, 0);
  }
}

// Integers of 4 bits as floats: those in one half of kLanes bytes.
HWY_INLINE Vec LoadInt4(const uint8_t* bytes, int shift) {
  const hn::Rebind<uint8_t, F32> d8;
  const hn::Rebind<int32_t, F32> d32;
  const auto pairs = hn::PromoteTo(d32, hn::LoadU(d8, bytes));
  return hn::ConvertTo(F32(), hn::And(hn::ShiftRightSame(pairs, shift), hn::Set(d32, 15)));
}
template <int kHalf>
HWY_INLINE Vec LoadInt4(const Int4Pair* pairs) {
  const hn::Rebind<uint8_t, F32> d8;
  const hn::Rebind<int32_t, F32> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d8, &pairs->bits));
  if constexpr (kHalf == 1) return hn::ConvertTo(F32(), hn::ShiftRight<4>(bits));
  return hn::ConvertTo(F32(), hn::And(bits, hn::Set(d32, 15)));
}
HWY_INLINE Vec LoadInt4(const Int4Columns* row, int column) {
  return LoadInt4(&row[(column >> 5 << 4) + (column & 15)].bits, (column >> 4 & 1) * 4);
}

// Elements of row `row` from `column` on; `at` is the beginning of the row, or of its pair.
template <int kHalf, typename T>
HWY_INLINE Vec LoadColumns(const T* rows, int64_t at, int /*row*/, int column) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return LoadHalf<kHalf == 1>(rows + at + 2 * column);
  } else if constexpr (std::is_same_v<T, PlainBf16>) {
    return LoadWide(&rows[at + column].value);
  } else if constexpr (std::is_same_v<T, Int4Pair>) {
    return LoadInt4<kHalf>(rows + at + column);
  } else {
    return LoadWide(rows + at + column);
  }
}
template <int kHalf>
HWY_INLINE Vec LoadColumns(const PlainInt4Columns& rows, int64_t at, int /*row*/, int column) {
  return LoadInt4(rows.data + at, rows.first_column + column);
}
template <int kHalf>
HWY_INLINE Vec LoadColumns(const ColumnScaledInt4& rows, int64_t at, int /*row*/, int column) {
  return hn::MulAdd(LoadInt4<kHalf>(rows.data + at + column), LoadWide(rows.scales + column),
                    LoadWide(rows.zeros + column));
}
template <int kHalf>
HWY_INLINE Vec LoadColumns(const RowScaledInt4& rows, int64_t at, int row, int column) {
  return hn::MulAdd(LoadInt4(rows.data + at, rows.first_column + column),
                    hn::Set(F32(), rows.scales[row]), hn::Set(F32(), rows.zeros[row]));
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
