// Integer products for matrices whose weights become 8-bit integers: 16-bit integers of x times
// integers of weights, added up exactly in 32 bits. Compiled once per instruction set, so the guard
// toggles (Highway's convention for -inl.h files).
#if defined(MEA_KERNELS_CPU_INTEGER_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_INTEGER_PRODUCTS_INL_H_
#undef MEA_KERNELS_CPU_INTEGER_PRODUCTS_INL_H_
#else
#define MEA_KERNELS_CPU_INTEGER_PRODUCTS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/integer_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {
namespace {

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
// last line, in 32 bits: 512 * 127 * 32767 < 2^31. `w_scales`, [kOuts], are of these steps alone;
// without them all steps of the outputs have a common one, which FinishSums applies.
template <int kRows, int kOuts, bool kScaled, typename W>
HWY_INLINE void AddSteps(const int16_t* x, const float* scales, const float* w_scales,
                         const W* const* w, int64_t w_step, int64_t steps, float* sums) {
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
    Vec scale = hn::Set(F32(), scales[r]);
    for (int o = 0; o < kOuts; ++o, sums += kLanes) {
      if constexpr (kScaled) scale = hn::Set(F32(), scales[r] * w_scales[o]);
      const Vec before = hn::Load(F32(), sums);
      hn::Store(hn::MulAdd(hn::ConvertTo(F32(), sum[r][o]), scale, before), F32(), sums);
    }
  }
}

// How a kind of weights is read. `Elements` are those of an output from `begin` on, `depth` <=
// kStretch of them, readable in whole steps; `room` holds kStretch. Where kGrouped, the scale of
// each group goes to every `step`th of `scales`; `RowScale` is of the whole row.
//
//   static constexpr bool kGrouped;
//   static const int8_t* Elements(const MatMulBlock& block, int out, int64_t begin, int64_t depth,
//                                 int8_t* room);
//   static void GroupScales(const MatMulBlock& block, int out, int64_t begin, int64_t depth,
//                           int step, float* scales);
//   static float RowScale(const MatMulBlock& block, int out);

// The most groups of a stretch.
constexpr int kMaxGroups = kStretch / 32;

// AddSteps for a stretch, group by group where weights have groups; `w_scales` is [group][kOuts].
template <typename Kind, int kRows, int kOuts, typename W>
HWY_INLINE void AddStretch(const MatMulBlock& block, const int16_t* x, const float* scales,
                           const float* w_scales, const W* const* w, int64_t w_step, int64_t steps,
                           float* sums) {
  if constexpr (!Kind::kGrouped) {
    return AddSteps<kRows, kOuts, false>(x, scales, nullptr, w, w_step, steps, sums);
  }
  const int64_t group_steps = block.w_group / kStep;
  const W* from[kOuts];
  for (int o = 0; o < kOuts; ++o) from[o] = w[o];
  for (int64_t first = 0; first < steps; first += group_steps, w_scales += kOuts) {
    const int64_t count = std::min(group_steps, steps - first);
    AddSteps<kRows, kOuts, true>(x + first * kRows * kStep, scales, w_scales, from, w_step, count,
                                 sums);
    for (int o = 0; o < kOuts; ++o) from[o] += count * w_step;
  }
}

// Writes the elements of `num_rows` rows from `row` on and kOuts outputs.
template <typename Kind, int kOuts>
HWY_INLINE void FinishSums(const MatMulBlock& block, int row, int num_rows, const int* outs,
                           const float* sums) {
  for (int o = 0; o < kOuts; ++o) {
    const float scale = Kind::RowScale(block, outs[o]);
    const float bias = block.bias == nullptr ? 0.0f : block.bias[outs[o]];
    for (int r = 0; r < num_rows; ++r) {
      const Vec sum = hn::Load(F32(), sums + (r * kOuts + o) * kLanes);
      block.out[(row + r) * block.out_stride + outs[o]] = Sum(sum) * scale + bias;
    }
  }
}

// A stretch of all rows against four outputs.
template <typename Kind>
void AddFewRows(const MatMulBlock& block, const PackedRows& rows, int64_t begin,
                const int8_t* const* w, const float* w_scales, float* sums) {
  const int64_t steps = rows.StepsAt(begin);
  for (int group = 0; group < rows.num_groups; ++group) {
    const int row = rows.RowOf(group);
    const int16_t* x = IntegersOf(block, rows, begin, group);
    const float* scales = block.x + rows.ScalesAt(begin) + row;
    float* target = sums + row * kFewTileOuts * kLanes;
    if (rows.RowsOf(group) == 1) {
      AddStretch<Kind, 1, kFewTileOuts>(block, x, scales, w_scales, w, kStep, steps, target);
    } else {
      AddStretch<Kind, kFewTileRows, kFewTileOuts>(block, x, scales, w_scales, w, kStep, steps,
                                                   target);
    }
  }
}

// Few rows: the weights are read from memory once, in four sequential streams, each over its own
// range of outputs.
template <typename Kind>
void StreamIntegers(const MatMulBlock& block) {
  const PackedRows rows(block.num_rows, block.k);
  const int apart = (block.num_outs + kFewTileOuts - 1) / kFewTileOuts;
  HWY_ALIGN float sums[kMaxStreamedRows * kFewTileOuts * kLanes];
  HWY_ALIGN int8_t room[kFewTileOuts][kStretch];
  float w_scales[kMaxGroups * kFewTileOuts];
  for (int i = 0; i < apart; ++i) {
    int outs[kFewTileOuts];
    // A last tile that has too few outputs does one of them again.
    for (int o = 0; o < kFewTileOuts; ++o) outs[o] = std::min(o * apart + i, block.num_outs - 1);
    std::fill_n(sums, block.num_rows * kFewTileOuts * kLanes, 0.0f);
    for (int64_t begin = 0; begin < block.k; begin += kStretch) {
      const int64_t depth = rows.DepthAt(begin);
      const int8_t* from[kFewTileOuts];
      for (int o = 0; o < kFewTileOuts; ++o) {
        from[o] = Kind::Elements(block, outs[o], begin, depth, room[o]);
        if constexpr (Kind::kGrouped) {
          Kind::GroupScales(block, outs[o], begin, depth, kFewTileOuts, w_scales + o);
        }
      }
      AddFewRows<Kind>(block, rows, begin, from, w_scales, sums);
    }
    FinishSums<Kind, kFewTileOuts>(block, 0, block.num_rows, outs, sums);
  }
}

// Widens a stretch of each output's weights into [pair of outputs][step][2][kStep], and its scales
// into [pair of outputs][group][2]; an odd last output is its own partner.
template <typename Kind>
void WidenPanel(const MatMulBlock& block, int64_t begin, int64_t depth, int16_t* panel,
                float* w_scales) {
  HWY_ALIGN int8_t room[kStretch];
  for (int o = 0; o < RoundUpTo(block.num_outs, kManyTileOuts); ++o) {
    const int out = std::min(o, block.num_outs - 1);
    const int side = o % kManyTileOuts;
    const int8_t* const w = Kind::Elements(block, out, begin, depth, room);
    int16_t* target = panel + (o - side) * kStretch + side * kStep;
    for (int64_t i = 0; i < depth; i += kStep, target += kManyTileOuts * kStep) {
      hn::Store(LoadIntegers(w + i), I16(), target);
    }
    if constexpr (Kind::kGrouped) {
      Kind::GroupScales(block, out, begin, depth, kManyTileOuts,
                        w_scales + (o - side) * kMaxGroups + side);
    }
  }
}

// One group of rows against the whole panel.
template <typename Kind, int kRows>
void AddManyRows(const MatMulBlock& block, const PackedRows& rows, int64_t begin, int group,
                 const int16_t* panel, const float* w_scales, float* sums) {
  const int16_t* const x = IntegersOf(block, rows, begin, group);
  const float* const scales = block.x + rows.ScalesAt(begin) + rows.RowOf(group);
  const int64_t steps = rows.StepsAt(begin);
  const bool is_last = begin + kStretch >= block.k;
  for (int out = 0; out < block.num_outs; out += kManyTileOuts) {
    const int16_t* const from[kManyTileOuts] = {panel, panel + kStep};
    AddStretch<Kind, kRows, kManyTileOuts>(block, x, scales, w_scales, from, kManyTileOuts * kStep,
                                           steps, sums);
    if (is_last) {
      // An odd last output is written twice.
      const int outs[kManyTileOuts] = {out, std::min(out + 1, block.num_outs - 1)};
      FinishSums<Kind, kManyTileOuts>(block, rows.RowOf(group), kRows, outs, sums);
    }
    panel += kManyTileOuts * kStretch;
    w_scales += kManyTileOuts * kMaxGroups;
    sums += kRows * kManyTileOuts * kLanes;
  }
}

// Many rows: a stretch of all the block's weights is widened once and stays in the second-level
// cache while the groups of rows pass by.
template <typename Kind>
void MultiplyManyRows(const MatMulBlock& block, float* scratch) {
  static_assert(kManyTileRows == 6);
  const PackedRows rows(block.num_rows, block.k);
  auto* const panel = reinterpret_cast<int16_t*>(scratch);  // half of [kPanelOuts][kStretch] floats
  float* const w_scales = scratch + cpu::kPanelOuts * kStretch / 2;
  float* const sums = scratch + cpu::kPanelOuts * kStretch;
  const int64_t row_sums = RoundUpTo(block.num_outs, kManyTileOuts) * kLanes;
  std::fill_n(sums, block.num_rows * row_sums, 0.0f);
  for (int64_t begin = 0; begin < block.k; begin += kStretch) {
    WidenPanel<Kind>(block, begin, rows.DepthAt(begin), panel, w_scales);
    for (int group = 0; group < rows.num_groups; ++group) {
      float* target = sums + rows.RowOf(group) * row_sums;
      switch (rows.RowsOf(group)) {
        case 6:
          AddManyRows<Kind, 6>(block, rows, begin, group, panel, w_scales, target);
          break;
        case 5:
          AddManyRows<Kind, 5>(block, rows, begin, group, panel, w_scales, target);
          break;
        case 4:
          AddManyRows<Kind, 4>(block, rows, begin, group, panel, w_scales, target);
          break;
        default:
          // More than kMaxStreamedRows rows dealt evenly leave no smaller group.
          AddManyRows<Kind, 3>(block, rows, begin, group, panel, w_scales, target);
      }
    }
  }
}

template <typename Kind>
void MultiplyIntegers(const MatMulBlock& block, float* scratch) {
  if (scratch == nullptr) {
    StreamIntegers<Kind>(block);
  } else {
    MultiplyManyRows<Kind>(block, scratch);
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

template <typename Kind>
cpu::ProductKernels IntegerProducts() {
  return {.packs_few_rows = true,
          .row_floats = cpu::PackedInt8Floats,
          .pack_rows = RoundRows,
          .multiply = MultiplyIntegers<Kind>,
          .loop = {.run = LoopOfIntegers, .flops = 2 * kLoopSums * kStep}};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
