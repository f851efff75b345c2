#include "kernels/cpu/int8_matmul.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/int8_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8_matmul.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

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

void RoundRows(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed) {
  const PackedRows rows(num_rows, k);
  auto* const integers = reinterpret_cast<int16_t*>(packed);
  for (int group = 0; group < rows.num_groups; ++group) {
    const int count = rows.RowsOf(group);
    for (int r = 0; r < count; ++r) {
      const int row = rows.RowOf(group) + r;
      for (int64_t begin = 0; begin < k; begin += kStretch) {
        packed[rows.ScalesAt(begin) + row] =
            RoundStretch(x + row * x_stride + begin, rows.DepthAt(begin), count,
                         integers + rows.IntegersAt(begin, group) + r * kStep);
      }
    }
  }
}

HWY_INLINE const int16_t* IntegersOf(const MatMulBlock& block, const PackedRows& rows,
                                     int64_t begin, int group) {
  return reinterpret_cast<const int16_t*>(block.x) + rows.IntegersAt(begin, group);
}

// kStep integers of 16 bits.
HWY_INLINE Integers LoadIntegers(const int8_t* p) {
  return hn::PromoteTo(I16(), hn::LoadU(I8(), p));
}
HWY_INLINE Integers LoadIntegers(const int16_t* p) { return hn::Load(I16(), p); }

// Keeps a vector of integers in a register. Otherwise GCC makes the load a memory operand of each
// use, or computes all products of a step before their sums, which then do not fit the registers.
template <typename V>
HWY_INLINE V InRegisterNow(V v) {
#if HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  asm volatile("" : "+x"(v.raw));
#endif
  return v;
}

// The register tile: what `steps` steps of one stretch of kRows rows and kOuts outputs add to
// `sums`, [kRows][kOuts] vectors. Step i of output o lies at w[o] + i * w_step. Exact up to the
// last line, in 32 bits: 512 * 127 * 32767 < 2^31.
template <int kRows, int kOuts, typename W>
HWY_INLINE void AddStretch(const int16_t* x, const float* scales, const W* const* w, int64_t w_step,
                           int64_t steps, float* sums) {
  Sums sum[kRows][kOuts];
  for (int r = 0; r < kRows; ++r) {
    for (int o = 0; o < kOuts; ++o) sum[r][o] = hn::Zero(I32());
  }
  const W* from[kOuts];
  for (int o = 0; o < kOuts; ++o) from[o] = w[o];
  for (int64_t i = 0; i < steps; ++i, x += kRows * kStep) {
    Integers weights[kOuts];
    for (int o = 0; o < kOuts; ++o) {
      weights[o] = LoadIntegers(from[o]);
      from[o] += w_step;
    }
    for (int r = 0; r < kRows; ++r) {
      const Integers value = InRegisterNow(hn::Load(I16(), x + r * kStep));
      for (int o = 0; o < kOuts; ++o) {
        Sums unused = sum[r][o];
        sum[r][o] = InRegisterNow(
            hn::ReorderWidenMulAccumulate(I32(), value, weights[o], sum[r][o], unused));
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const Vec scale = hn::Set(F32(), scales[r]);
    for (int o = 0; o < kOuts; ++o, sums += kLanes) {
      const Vec before = hn::Load(F32(), sums);
      hn::Store(hn::MulAdd(hn::ConvertTo(F32(), sum[r][o]), scale, before), F32(), sums);
    }
  }
}

// Writes the elements of `num_rows` rows from `row` on and kOuts outputs.
template <int kOuts>
HWY_INLINE void FinishSums(const MatMulBlock& block, int row, int num_rows, const int* outs,
                           const float* sums) {
  const auto* w = static_cast<const int8_t*>(block.w);
  for (int o = 0; o < kOuts; ++o) {
    const float scale = Int8Scale(w + outs[o] * block.w_stride, block.k);
    const float bias = block.bias == nullptr ? 0.0f : block.bias[outs[o]];
    for (int r = 0; r < num_rows; ++r) {
      const Vec sum = hn::Load(F32(), sums + (r * kOuts + o) * kLanes);
      block.out[(row + r) * block.out_stride + outs[o]] = Sum(sum) * scale + bias;
    }
  }
}

// A stretch of all rows against four outputs.
void AddFewRows(const MatMulBlock& block, const PackedRows& rows, int64_t begin,
                const int8_t* const* w, float* sums) {
  const int64_t steps = rows.StepsAt(begin);
  for (int group = 0; group < rows.num_groups; ++group) {
    const int row = rows.RowOf(group);
    const int16_t* x = IntegersOf(block, rows, begin, group);
    const float* scales = block.x + rows.ScalesAt(begin) + row;
    float* target = sums + row * kFewTileOuts * kLanes;
    if (rows.RowsOf(group) == 1) {
      AddStretch<1, kFewTileOuts>(x, scales, w, kStep, steps, target);
    } else {
      AddStretch<kFewTileRows, kFewTileOuts>(x, scales, w, kStep, steps, target);
    }
  }
}

// Few rows: the weights are read from memory once, in four sequential streams, each over its own
// range of outputs.
void StreamInt8(const MatMulBlock& block) {
  const PackedRows rows(block.num_rows, block.k);
  const auto* w = static_cast<const int8_t*>(block.w);
  const int apart = (block.num_outs + kFewTileOuts - 1) / kFewTileOuts;
  HWY_ALIGN float sums[kMaxStreamedRows * kFewTileOuts * kLanes];
  int8_t padded[kFewTileOuts][kStretch];
  for (int i = 0; i < apart; ++i) {
    int outs[kFewTileOuts];
    const int8_t* from[kFewTileOuts];
    for (int o = 0; o < kFewTileOuts; ++o) {
      // A last tile that has too few outputs does one of them again.
      outs[o] = std::min(o * apart + i, block.num_outs - 1);
      from[o] = w + outs[o] * block.w_stride;
    }
    std::fill_n(sums, block.num_rows * kFewTileOuts * kLanes, 0.0f);
    for (int64_t begin = 0; begin < block.k; begin += kStretch) {
      const int64_t depth = rows.DepthAt(begin);
      for (int o = 0; o < kFewTileOuts && depth % kStep != 0; ++o) {
        // Bytes after the row are not read; the rest of `padded` is multiplied by zeros.
        std::copy_n(from[o], depth, padded[o]);
        from[o] = padded[o];
      }
      AddFewRows(block, rows, begin, from, sums);
      for (const int8_t*& row : from) row += depth;
    }
    FinishSums<kFewTileOuts>(block, 0, block.num_rows, outs, sums);
  }
}

// Widens a stretch of each output's weights into [pair of outputs][step][2][kStep]; an odd last
// output is its own partner.
void WidenPanel(const MatMulBlock& block, int64_t begin, int64_t depth, int16_t* panel) {
  for (int o = 0; o < RoundUpTo(block.num_outs, kManyTileOuts); ++o) {
    const int8_t* const w = static_cast<const int8_t*>(block.w) + begin +
                            std::min(o, block.num_outs - 1) * block.w_stride;
    const int side = o % kManyTileOuts;
    int16_t* target = panel + (o - side) * kStretch + side * kStep;
    int64_t i = 0;
    for (; i + kStep <= depth; i += kStep, target += kManyTileOuts * kStep) {
      hwy::Prefetch(w + block.w_stride + i);
      hn::Store(LoadIntegers(w + i), I16(), target);
    }
    if (kStep == 1 || i == depth) continue;
    int8_t padded[kStep] = {};
    std::copy(w + i, w + depth, padded);
    hn::Store(LoadIntegers(padded), I16(), target);
  }
}

// One group of rows against the whole panel.
template <int kRows>
void AddManyRows(const MatMulBlock& block, const PackedRows& rows, int64_t begin, int group,
                 const int16_t* panel, float* sums) {
  const int16_t* const x = IntegersOf(block, rows, begin, group);
  const float* const scales = block.x + rows.ScalesAt(begin) + rows.RowOf(group);
  const int64_t steps = rows.StepsAt(begin);
  const bool is_last = begin + kStretch >= block.k;
  for (int out = 0; out < block.num_outs; out += kManyTileOuts) {
    const int16_t* const from[kManyTileOuts] = {panel, panel + kStep};
    AddStretch<kRows, kManyTileOuts>(x, scales, from, kManyTileOuts * kStep, steps, sums);
    if (is_last) {
      // An odd last output is written twice.
      const int outs[kManyTileOuts] = {out, std::min(out + 1, block.num_outs - 1)};
      FinishSums<kManyTileOuts>(block, rows.RowOf(group), kRows, outs, sums);
    }
    panel += kManyTileOuts * kStretch;
    sums += kRows * kManyTileOuts * kLanes;
  }
}

// Many rows: a stretch of all the block's weights is widened once and stays in the second-level
// cache while the groups of rows pass by.
void MultiplyMany(const MatMulBlock& block, float* scratch) {
  static_assert(kManyTileRows == 6);
  const PackedRows rows(block.num_rows, block.k);
  auto* const panel = reinterpret_cast<int16_t*>(scratch);
  float* const sums = scratch + cpu::kPanelOuts * kStretch;
  const int64_t row_sums = RoundUpTo(block.num_outs, kManyTileOuts) * kLanes;
  std::fill_n(sums, block.num_rows * row_sums, 0.0f);
  for (int64_t begin = 0; begin < block.k; begin += kStretch) {
    WidenPanel(block, begin, rows.DepthAt(begin), panel);
    for (int group = 0; group < rows.num_groups; ++group) {
      float* target = sums + rows.RowOf(group) * row_sums;
      switch (rows.RowsOf(group)) {
        case 6:
          AddManyRows<6>(block, rows, begin, group, panel, target);
          break;
        case 5:
          AddManyRows<5>(block, rows, begin, group, panel, target);
          break;
        case 4:
          AddManyRows<4>(block, rows, begin, group, panel, target);
          break;
        default:
          // More than kMaxStreamedRows rows dealt evenly leave no smaller group.
          AddManyRows<3>(block, rows, begin, group, panel, target);
      }
    }
  }
}

void MultiplyInt8(const MatMulBlock& block, float* scratch) {
  if (scratch == nullptr) {
    StreamInt8(block);
  } else {
    MultiplyMany(block, scratch);
  }
}

constexpr int kLoopSums = 12;

void LoopOfIntegers(int64_t rounds) {
  Sums sums[kLoopSums];
  for (Sums& sum : sums) sum = hn::Zero(I32());
  Integers one = hn::Set(I16(), 1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (Sums& sum : sums) {
      one = InRegisterNow(one);
      Sums unused = sum;
      sum = hn::ReorderWidenMulAccumulate(I32(), one, one, sum, unused);
    }
  }
  for (int i = 1; i < kLoopSums; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  volatile int32_t sink = hn::GetLane(sums[0]);
  static_cast<void>(sink);
}

cpu::ProductKernels ChooseInt8MatMul() {
  return {.packs_few_rows = true,
          .row_floats = cpu::PackedInt8Floats,
          .pack_rows = RoundRows,
          .multiply = MultiplyInt8,
          .loop = {.run = LoopOfIntegers, .flops = 2 * kLoopSums * kStep}};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseInt8MatMul);

namespace cpu {

ProductKernels GetInt8MatMulKernels() { return HWY_DYNAMIC_DISPATCH(ChooseInt8MatMul)(); }

}  // namespace cpu
}  // namespace mea
#endif
