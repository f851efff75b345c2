// How attention's products point at rows of B in each format, and load their columns as floats.
#if defined(MEA_KERNELS_CPU_TILE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_TILE_ROWS_INL_H_
#undef MEA_KERNELS_CPU_TILE_ROWS_INL_H_
#else
#define MEA_KERNELS_CPU_TILE_ROWS_INL_H_
#endif

#include <type_traits>
#include <utility>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

constexpr int kTileColumns = 16;
constexpr int kTileVecs = kTileColumns / kLanes;
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

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
