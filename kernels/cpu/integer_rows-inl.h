// Rows of x in integers of 16 bits, as int8_matmul.h says. Compiled once per instruction set, so
// the guard toggles (Highway's convention for -inl.h files).
#if defined(MEA_KERNELS_CPU_INTEGER_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_INTEGER_ROWS_INL_H_
#undef MEA_KERNELS_CPU_INTEGER_ROWS_INL_H_
#else
#define MEA_KERNELS_CPU_INTEGER_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/int8_matmul.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {
namespace {

using cpu::kMaxStreamedRows;
using cpu::kStretch;
using cpu::MatMulBlock;

using I32 = hn::RebindToSigned<F32>;
#if HWY_TARGET == HWY_SCALAR
using I16 = hn::Rebind<int16_t, F32>;
#else
using I16 = hn::Repartition<int16_t, F32>;
#endif
using I8 = hn::Rebind<int8_t, I16>;
using Integers = hn::Vec<I16>;
using Sums = hn::Vec<I32>;
// Elements of k in one step: two for each lane of a sum, except on the target with one lane.
constexpr int kStep = hn::MaxLanes(I16());

// Rows and outputs of a register tile, where rows are few and where they are many.
constexpr int kFewTileRows = 2;
constexpr int kFewTileOuts = 4;
constexpr int kManyTileRows = 6;
constexpr int kManyTileOuts = 2;

int64_t RoundUpTo(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// How the rows of a block lie in packed memory: [stretch][group][step][rows of the group][kStep]
// integers, then [stretch][row] scales. Rows are dealt evenly to groups of at most a tile's rows.
struct PackedRows {
  int num_rows;
  int num_groups;
  int64_t k;

  PackedRows(int rows, int64_t depth) : num_rows(rows), k(depth) {
    const int most = rows <= kMaxStreamedRows ? kFewTileRows : kManyTileRows;
    num_groups = (rows + most - 1) / most;
  }
  int RowOf(int group) const { return group * num_rows / num_groups; }
  int RowsOf(int group) const { return RowOf(group + 1) - RowOf(group); }

  // Of the stretch that begins at `begin`: its elements, its steps.
  int64_t DepthAt(int64_t begin) const { return std::min<int64_t>(kStretch, k - begin); }
  int64_t StepsAt(int64_t begin) const { return (DepthAt(begin) + kStep - 1) / kStep; }

  // Where its integers of a group begin, counted in integers, and its scales, counted in floats.
  int64_t IntegersAt(int64_t begin, int group) const {
    return num_rows * begin + RowOf(group) * StepsAt(begin) * kStep;
  }
  int64_t ScalesAt(int64_t begin) const {
    return num_rows * (cpu::PackedInt8Depth(k) / 2 + begin / kStretch);
  }
};

// The elements from i on of a stretch, zeros behind its end.
HWY_INLINE Vec ElementsAt(const float* x, int64_t i, int64_t depth) {
  if (i + kLanes <= depth) return LoadWide(x + i);
  return i < depth ? LoadTail(x + i, depth - i) : hn::Zero(F32());
}

// The largest |x| of a stretch, or NaN where one is infinite or not a number: as integers, the
// floats above zero are in order and NaN is the largest.
HWY_INLINE float LargestOf(const float* x, int64_t depth) {
  Sums largest = hn::Zero(I32());
  for (int64_t i = 0; i < depth; i += kLanes) {
    largest = hn::Max(largest, hn::BitCast(I32(), hn::Abs(ElementsAt(x, i, depth))));
  }
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(I32(), largest));
  const float value = std::bit_cast<float>(bits);
  return value <= std::numeric_limits<float>::max() ? value
                                                    : std::numeric_limits<float>::quiet_NaN();
}

// Rounds a stretch of one row to every `rows`th vector of `to`, and returns its scale. A scale of
// NaN makes every product of the row NaN, whatever the integers.
float RoundStretch(const float* x, int64_t depth, int rows, int16_t* to) {
  // Below the floor, one over the scale would overflow.
  const float largest = LargestOf(x, depth);
  const float top = largest < 0x1p-100f ? 0x1p-100f : largest;
  const Vec inverse = hn::Set(F32(), largest == largest ? 32767.0f / top : 0.0f);
  const hn::Rebind<int16_t, F32> half;
  for (int64_t i = 0; i < depth; i += kStep, to += rows * kStep) {
    for (int64_t j = 0; j < kStep; j += kLanes) {
      const Vec v = hn::Mul(ElementsAt(x, i + j, depth), inverse);
      hn::StoreU(hn::DemoteTo(half, hn::NearestInt(v)), half, to + j);
    }
  }
  return top / 32767.0f;
}

void RoundRows(const cpu::PackArgs& args) {
  const PackedRows rows(args.num_rows, args.k);
  auto* const integers = reinterpret_cast<int16_t*>(args.packed);
  const int end = args.EndGroup(rows.num_groups);
  for (int group = args.FirstGroup(rows.num_groups); group < end; ++group) {
    const int count = rows.RowsOf(group);
    for (int r = 0; r < count; ++r) {
      const int row = rows.RowOf(group) + r;
      for (int64_t begin = 0; begin < args.k; begin += kStretch) {
        args.packed[rows.ScalesAt(begin) + row] =
            RoundStretch(args.x + row * args.x_stride + begin, rows.DepthAt(begin), count,
                         integers + rows.IntegersAt(begin, group) + r * kStep);
      }
    }
  }
}

HWY_INLINE const int16_t* IntegersOf(const MatMulBlock& block, const PackedRows& rows,
                                     int64_t begin, int group) {
  return reinterpret_cast<const int16_t*>(block.x) + rows.IntegersAt(begin, group);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
