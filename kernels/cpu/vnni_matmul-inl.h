#pragma once

// Products of bytes (vnni_matmul.h) for vectors of any width. The file that includes this has
// included transposed-inl.h and defined DotBytes(sum, a, b): sums of the products of four bytes,
// the first ones without a sign.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/vnni_matmul.h"
#include "kernels/int8_rows.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

// A register tile of six rows has 12 integer sums, 12 of floats, two vectors of weights, one of x.
// AVX2 has half of the registers.
using ByteGroups = RowGroups<kLanes, kLanes == 16 ? 6 : 3>;

// The instruction takes one factor without a sign: it is this more than the integer.
constexpr int kUnsigned = 128;

// Rows of x, rounded to bytes in groups of kElements. Packed memory holds, for each group of rows
// and then each group of k, [rows] scales, [rows] times -kFactor * the sum of the bytes, and
// [rows][kElements] bytes. If kFactor is 0, there are no sums, and the bytes have no sign.
template <int kElements, int kFactor>
struct RoundedRows {
  static constexpr bool kIsUnsigned = kFactor == 0;
  static constexpr int kQuads = kElements / 4;
  static constexpr int kFirstQuads = kIsUnsigned ? 1 : 2;
  static constexpr int kFloats = kFirstQuads + kQuads;

  static int64_t RowFloats(int64_t k) { return GroupsOf(k) * kFloats; }

  static void RoundRows(const PackArgs& args) {
    const ByteGroups rows(args.num_rows);
    const int end = args.EndGroup(rows.num_groups);
    for (int group = args.FirstGroup(rows.num_groups); group < end; ++group) {
      const int first = rows.RowOf(group);
      const int count = rows.RowsOf(group);
      for (int r = 0; r < count; ++r) {
        RoundRow(args.x + (first + r) * args.x_stride, args.k, r, count,
                 args.packed + first * RowFloats(args.k));
      }
    }
  }

 private:
  static int64_t GroupsOf(int64_t k) { return (k + kElements - 1) / kElements; }

  // Calls body(elements, where they begin) for the vectors of a group of which `depth` elements
  // are there, and zeros.
  template <bool kWhole, typename Body>
  static HWY_INLINE void ForGroup(const float* x, int64_t depth, const Body& body) {
    for (int i = 0; i < kElements; i += kLanes) {
      body(FirstBytes(kWhole ? kVectorBytes : 4 * (depth - i)).Load(x + i), i);
    }
  }

  // One of the `count` rows of a group, as many groups of k at a time as a vector has lanes.
  static void RoundRow(const float* x, int64_t k, int row, int count, float* packed) {
    constexpr int64_t kStep = kLanes * kElements;
    int64_t i = 0;
    for (; i + kStep <= k; i += kStep) {
      RoundGroups<true>(x + i, k - i, row, count, packed + i / kElements * count * kFloats);
    }
    if (i < k) {
      RoundGroups<false>(x + i, k - i, row, count, packed + i / kElements * count * kFloats);
    }
  }

  // The scale of a group is that of its largest |x|, or NaN where one is infinite or not a number:
  // that makes every product of the row NaN, whatever the integers. As integers, the floats above
  // zero are in order and NaN is the largest.
  template <bool kWhole>
  static HWY_INLINE void RoundGroups(const float* x, int64_t depth, int row, int count, float* to) {
    constexpr int32_t kInfinityBits = 0x7f800000;
    constexpr float kLeastTop = 0x1p-100f;  // below, one over the scale would overflow
    const int num_groups =
        kWhole ? kLanes : static_cast<int>(std::min<int64_t>(kLanes, GroupsOf(depth)));
    Words sizes[kLanes] = {};
    for (int group = 0; group < num_groups; ++group) {
      ForGroup<kWhole>(x + group * kElements, depth - group * kElements, [&](Words v, int) {
        const Words size = v & 0x7fffffff;
        sizes[group] = size > sizes[group] ? size : sizes[group];
      });
    }
    Transpose(sizes);
    Words bits = {};
    for (const Words& column : sizes) bits = column > bits ? column : bits;
    const Words is_finite = bits < kInfinityBits;
    const auto top = (Floats)bits;
    const Floats largest = top > kLeastTop ? top : InAllLanes(kLeastTop);
    const Floats nan = InAllLanes(std::numeric_limits<float>::quiet_NaN());
    alignas(kVectorBytes) int32_t keeps[kLanes];
    alignas(kVectorBytes) float inverses[kLanes], scales[kLanes];
    std::memcpy(keeps, &is_finite, sizeof(keeps));
    const Floats inverse = 127.0f / largest;
    std::memcpy(inverses, &inverse, sizeof(inverses));
    const Floats scale = is_finite ? largest / 127.0f : nan;
    std::memcpy(scales, &scale, sizeof(scales));
    for (int group = 0; group < num_groups; ++group, to += count * kFloats) {
      Words sums = {};
      auto* const bytes = reinterpret_cast<int8_t*>(to + kFirstQuads * count + row * kQuads);
      ForGroup<kWhole>(x + group * kElements, depth - group * kElements, [&](Words v, int i) {
        // NaN would become the least integer, whose sums overflow.
        const Words integers =
            NearestIntegers((Floats)v * InAllLanes(inverses[group])) & keeps[group];
        sums += integers;
        StoreBytes(kIsUnsigned ? integers + kUnsigned : integers, bytes + i);
      });
      to[row] = scales[group];
      if constexpr (!kIsUnsigned) {
        const int32_t sum = SumOfLanes(sums) * -kFactor;
        std::memcpy(to + count + row, &sum, sizeof(sum));
      }
    }
  }
};

// One quad of each row against those of the outputs; moves on to their next ones.
template <typename X, int kRows, int kVectors>
HWY_INLINE void AddQuads(const float* x, const Words*& weights,
                         Words (&integers)[kRows][kVectors]) {
  Words w[kVectors];
  MEA_UNROLL
  for (int c = 0; c < kVectors; ++c) w[c] = weights[c];
  MEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    auto quads = (Words)InAllLanes(x[r * X::kQuads]);
    // In registers: GCC would make the quads a memory operand of all their uses.
    if constexpr (kVectors > 1) asm("" : "+v"(quads));
    MEA_UNROLL
    for (int c = 0; c < kVectors; ++c) {
      integers[r][c] = X::kIsUnsigned ? DotBytes(integers[r][c], quads, w[c])
                                      : DotBytes(integers[r][c], w[c], quads);
      if constexpr (kVectors > 1) asm("" : "+v"(integers[r][c]));
    }
  }
  weights += kVectors;
}

// Weights with a sign, behind what they add to the sum of a group of an x without one, taken off.
struct SignedWeights {
  HWY_INLINE SignedWeights(const MatMulBlock&, const int8_t* const*) {}
  HWY_INLINE void operator()(const Words (&v)[kLanes], int64_t, Words* to, int apart) const {
    constexpr int kQuads = kGroup / 4;
    const Words factors = Words{} + static_cast<int32_t>(0x01010101u * kUnsigned);
    for (int first = 0; first < kLanes; first += kQuads) {
      Words sum = {};
      for (int j = 0; j < kQuads; ++j) sum = DotBytes(sum, factors, v[first + j]);
      *to = -sum;
      to += apart;
      for (int j = 0; j < kQuads; ++j, to += apart) *to = v[first + j];
    }
  }
};

// A group of k is a unit of the weights. The factor without a sign is the weight where rows are
// few, since x can be a memory operand then; what this adds to a sum is taken off by the sum of x.
// Where they are many it is x, which is packed in less time and memory.
template <bool kManyRows>
struct VnniKind {
  using Weight = int8_t;
  using Groups = ByteGroups;
  using X = RoundedRows<kGroup, kManyRows ? 0 : kUnsigned>;
  using Preparation =
      std::conditional_t<kManyRows, SignedWeights,
                         PlainWeights<Weight, static_cast<int32_t>(0x01010101u * kUnsigned)>>;
  static constexpr bool kBeginsAnywhere = false;
  static constexpr int kUnitVectors = kGroup / 4;
  static constexpr int kPreparedVectors = kManyRows + kUnitVectors;
  static constexpr int64_t kMostDepth = 768;

  static constexpr int64_t BytesOf(int64_t k) { return k; }
  static constexpr int FewVectors(int) { return 1; }
  static int64_t RowFloats(int64_t k) { return X::RowFloats(k); }

  template <int kRows, int kVectors, int kLines>
  static HWY_INLINE void Multiply(const float*& x, const Words*& weights, ReadAhead<kLines>& ahead,
                                  Floats (&sums)[kRows][kVectors]) {
    const float* const scales = x;
    Words integers[kRows][kVectors];
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MEA_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        integers[r][c] = kManyRows ? weights[c] : (Words)InAllLanes(x[kRows + r]);
      }
    }
    if constexpr (kManyRows) weights += kVectors;
    x += X::kFirstQuads * kRows;
    for (int i = 0; i < kUnitVectors; ++i) {
      ahead.Read();
      AddQuads<X>(x + i, weights, integers);
    }
    x += kRows * X::kQuads;
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MEA_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        sums[r][c] = MulAdd(__builtin_convertvector(integers[r][c], Floats), InAllLanes(scales[r]),
                            sums[r][c]);
      }
    }
  }

  struct Finish {
    Floats scales = {};
    Floats bias;

    HWY_INLINE Finish(const MatMulBlock& block, int out) : bias(BiasOf(block, out)) {
      const int8_t* rows[kLanes];
      RowsOf(block, out, rows);
      for (int lane = 0; lane < kLanes; ++lane) scales[lane] = Int8Scale(rows[lane], block.k);
    }
    HWY_INLINE Floats operator()(Floats sum) const { return MulAdd(sum, scales, bias); }
  };
};

constexpr int kLoopSums = 12;

void LoopOfBytes(int64_t rounds) {
  Words sums[kLoopSums] = {};
  const Words ones = Words{} + 0x01010101;
  for (int64_t round = 0; round < rounds; ++round) {
    for (Words& sum : sums) {
      sum = DotBytes(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
}

template <typename Few, typename Many>
void RoundRows(const PackArgs& args) {
  const bool is_few = args.num_rows <= ByteGroups::kMaxFewRows;
  is_few ? Few::X::RoundRows(args) : Many::X::RoundRows(args);
}

template <typename Few, typename Many = Few>
constexpr ProductKernels kByteKernels = {
    .max_streamed_rows = ByteGroups::kMaxFewRows,
    .packs_few_rows = true,
    .few_outs = kLanes,
    .few_bytes = 1 << 20,
    .most_rows = kMostPanelRows,
    .many_outs = 4 * kTileOuts,
    .row_floats = Few::RowFloats,
    .pack_rows = RoundRows<Few, Many>,
    .multiply = MultiplyTransposed<Few, Many>,
    .loop = {.run = LoopOfBytes, .flops = 2 * 4 * kLanes* kLoopSums}};
using Int8Few = VnniKind<false>;
using Int8Many = VnniKind<true>;

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
