#include "kernels/cpu/bf16_matmul.h"

#include <algorithm>

#include "kernels/cpu/avx512_lanes-inl.h"

#define MEA_PRODUCT_TARGET MEA_LANES_TARGET ",avx512bf16"
#include "kernels/cpu/transposed-inl.h"

namespace mea::cpu {

bool HasBf16Products() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)

namespace {

HWY_INLINE Floats AddPairs(Floats sum, Words x, Words w) {
  return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

struct Bf16Kind {
  using Weight = Bf16;
  using Preparation = PlainWeights<Weight>;
  static constexpr bool kBeginsAnywhere = true;
  static constexpr int kUnitVectors = 1;
  static constexpr int kPreparedVectors = 1;
  static constexpr int64_t kMostDepth = 640;
  // A register tile has 24 sums, two vectors of weights, one of x.
  using Groups = RowGroups<16, 12>;

  // Two of few rows as well: half of the loads of x. Fewer rows wait for memory, which then came
  // later; of more, the sums would not fit the registers.
  static constexpr int FewVectors(int rows) { return rows >= 6 && rows <= 13 ? 2 : 1; }

  static constexpr int64_t BytesOf(int64_t k) { return 2 * k; }
  static int64_t RowFloats(int64_t k) { return (k + 1) / 2; }

  template <int kRows, int kVectors, int kLines>
  static HWY_INLINE void Multiply(const float*& x, const Words*& weights, ReadAhead<kLines>& ahead,
                                  Floats (&sums)[kRows][kVectors]) {
    ahead.Read();
    Words w[kVectors];
    MEA_UNROLL
    for (int c = 0; c < kVectors; ++c) w[c] = weights[c];
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      auto pair = (Words)InAllLanes(x[r]);
      // In a register: GCC would make it a memory operand of all its uses.
      if constexpr (kVectors > 1) asm("" : "+v"(pair));
      MEA_UNROLL
      for (int c = 0; c < kVectors; ++c) sums[r][c] = AddPairs(sums[r][c], pair, w[c]);
    }
    x += kRows;
    weights += kVectors;
  }

  struct Finish {
    Floats bias;

    HWY_INLINE Finish(const MatMulBlock& block, int out) : bias(BiasOf(block, out)) {}
    HWY_INLINE Floats operator()(Floats sum) const { return sum + bias; }
  };
};

HWY_INLINE Words PairsOf(Words first, Words second) {
  return (Words)_mm512_cvtne2ps_pbh((Floats)second, (Floats)first);
}

// One row lies as it is.
void RoundRow(const PackArgs& args) {
  for (int64_t i = 0; i < args.k; i += 2 * kLanes) {
    const FirstBytes low(4 * (args.k - i)), high(4 * (args.k - i - kLanes));
    StoreFirst(PairsOf(low.Load(args.x + i), high.Load(args.x + i + kLanes)),
               static_cast<int>(std::min<int64_t>(kLanes, (args.k - i + 1) / 2)),
               args.packed + i / 2);
  }
}

void RoundRows(const PackArgs& args) {
  if (args.num_rows == 1) return RoundRow(args);
  constexpr int kDepth = 2 * kLanes;
  const auto [x, x_stride, num_rows, k, packed, share, num_shares] = args;
  const Bf16Kind::Groups rows(num_rows);
  const int end_group = args.EndGroup(rows.num_groups);
  for (int group = args.FirstGroup(rows.num_groups); group < end_group; ++group) {
    const int begin = rows.RowOf(group);
    const int count = rows.RowsOf(group);
    float* target = packed + begin * Bf16Kind::RowFloats(k);
    float* const end = target + count * Bf16Kind::RowFloats(k);
    for (int64_t i = 0; i < k; i += kDepth) {
      const FirstBytes low(4 * (k - i)), high(4 * (k - i - kLanes));
      Words pairs[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        const float* row = x + (begin + std::min(r, count - 1)) * x_stride + i;
        pairs[r] = PairsOf(low.Load(row), high.Load(row + kLanes));
      }
      Transpose(pairs);
      for (int j = 0; j < kLanes && target < end; ++j, target += count) {
        StoreFirst(pairs[j], count, target);
      }
    }
  }
}

constexpr int kLoopSums = 16;

void LoopOfBf16(int64_t rounds) {
  Floats sums[kLoopSums] = {};
  const Words ones = Words{} + 0x3f803f80;
  for (int64_t round = 0; round < rounds; ++round) {
    for (Floats& sum : sums) {
      sum = AddPairs(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
}

}  // namespace

HWY_POP_ATTRIBUTES

ProductKernels GetBf16MatMulKernels() {
  return {.max_streamed_rows = Bf16Kind::Groups::kMaxFewRows,
          .packs_few_rows = true,
          .few_outs = kLanes,
          .few_bytes = 1 << 20,
          .most_rows = kMostPanelRows,
          .many_outs = 4 * kTileOuts,
          .row_floats = Bf16Kind::RowFloats,
          .pack_rows = RoundRows,
          .multiply = MultiplyTransposed<Bf16Kind>,
          .loop = {.run = LoopOfBf16, .flops = 2 * 2 * kLanes * kLoopSums}};
}

}  // namespace mea::cpu
