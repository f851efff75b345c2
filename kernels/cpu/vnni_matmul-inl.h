#pragma once

// Products of bytes (vnni_matmul.h) for vectors of any width. The file that includes this has
// included transposed-inl.h and defined DotBytes(sum, a, b): sums of the products of four bytes,
// the first ones without a sign.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/vnni_matmul.h"
#include "kernels/int8_rows.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

// A register tile of six rows has 12 integer sums, 12 of floats, two vectors of weights, one of x.
// AVX2 has half of the registers.
using ByteGroups = RowGroups<kLanes, kLanes == 16 ? 6 : 3>;

// Groups of k of some rows, or some groups of one row, each in its lane.
template <int kElements, int kFactor>
struct Rounded {
  static constexpr int kQuads = kElements / 4;
  static constexpr int kFloats = 2 + kQuads;

  Floats parts[kFloats];  // scales, -kFactor times the sums, quads

  // The group in lane i begins at x + min(i, num_lanes - 1) * apart, `depth` - i * deeper elements
  // before the end of k. It is rounded with the scale of its largest |x|, or of NaN where one is
  // infinite or not a number: that makes every product of the row NaN, whatever the integers. As
  // integers, the floats above zero are in order and NaN is the largest.
  HWY_INLINE Rounded(const float* x, int64_t apart, int num_lanes, int64_t depth, int deeper) {
    constexpr int32_t kInfinityBits = 0x7f800000;
    constexpr float kLeastTop = 0x1p-100f;  // below, one over the scale would overflow
    // Of one row, lane by lane fewer elements are left; of several, as many.
    const bool is_whole = depth >= (num_lanes - 1) * deeper + kElements;
    Words v[kElements];
    for (int begin = 0; begin < kElements; begin += kLanes) {
      Words part[kLanes];
      const FirstBytes bytes(4 * ((is_whole ? kElements : depth) - begin));
      for (int i = 0; i < kLanes; ++i) {
        const int lane = std::min(i, num_lanes - 1);
        const float* from = x + lane * apart + begin;
        part[i] = is_whole || deeper == 0
                      ? bytes.Load(from)
                      : FirstBytes(4 * (depth - lane * deeper - begin)).Load(from);
      }
      Transpose(part);
      std::copy_n(part, kLanes, v + begin);
    }
    Words bits = {};
    for (const Words& column : v) {
      const Words size = column & 0x7fffffff;
      bits = size > bits ? size : bits;
    }
    const Words is_finite = bits < kInfinityBits;
    const auto top = (Floats)bits;
    const Floats largest = top > kLeastTop ? top : InAllLanes(kLeastTop);
    const Floats inverse = is_finite ? 127.0f / largest : Floats{};
    parts[0] = is_finite ? largest / 127.0f : InAllLanes(std::numeric_limits<float>::quiet_NaN());
    Words sum = {};
    for (int j = 0; j < kQuads; ++j) {
      Words quads = {};
      for (int i = 3; i >= 0; --i) {
        // NaN would become the least integer, whose sums overflow.
        const Words integers = NearestIntegers((Floats)v[4 * j + i] * inverse) & is_finite;
        sum += integers;
        quads = quads << 8 | (integers & 0xff);
      }
      parts[2 + j] = (Floats)quads;
    }
    parts[1] = (Floats)(sum * -kFactor);
  }
};

// Rows of x, rounded to bytes in groups of kElements. Packed memory holds, for each group of rows
// and then each group of k, [rows] scales, [rows] times -kFactor * the sum of the bytes, and
// [kElements / 4][rows] times four bytes.
template <int kElements, int kFactor>
class RoundedRows {
 public:
  static int64_t RowFloats(int64_t k) { return GroupsOf(k) * RoundedGroups::kFloats; }

  static void RoundRows(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed) {
    const ByteGroups rows(num_rows);
    for (int group = 0; group < rows.num_groups; ++group) {
      const float* row = x + rows.RowOf(group) * x_stride;
      const int count = rows.RowsOf(group);
      float* target = packed + rows.RowOf(group) * RowFloats(k);
      if (count < kLanes / 4) {
        // Lanes are groups of k.
        for (int64_t i = 0; i < k;
             i += kLanes * kElements, target += kLanes * count * RoundedGroups::kFloats) {
          const int num_lanes = static_cast<int>(std::min<int64_t>(kLanes, GroupsOf(k - i)));
          for (int r = 0; r < count; ++r) {
            const RoundedGroups rounded(row + r * x_stride + i, kElements, num_lanes, k - i,
                                        kElements);
            alignas(kVectorBytes) float parts[RoundedGroups::kFloats][kLanes];
            std::memcpy(parts, rounded.parts, sizeof(parts));
            float* to = target + r;
            for (int lane = 0; lane < num_lanes; ++lane) {
              for (int j = 0; j < RoundedGroups::kFloats; ++j, to += count) *to = parts[j][lane];
            }
          }
        }
        continue;
      }
      // Lanes are rows.
      for (int64_t i = 0; i < k; i += kElements, target += count * RoundedGroups::kFloats) {
        for (int r = 0; r < count; r += kLanes) {
          const int num_lanes = std::min(kLanes, count - r);
          const RoundedGroups rounded(row + r * x_stride + i, x_stride, num_lanes, k - i, 0);
          for (int j = 0; j < RoundedGroups::kFloats; ++j) {
            StoreFirst((Words)rounded.parts[j], num_lanes, target + j * count + r);
          }
        }
      }
    }
  }

 private:
  using RoundedGroups = Rounded<kElements, kFactor>;

  static int64_t GroupsOf(int64_t k) { return (k + kElements - 1) / kElements; }
};

// One quad of each row against those of the outputs; moves on to the next ones.
template <int kRows, int kVectors>
HWY_INLINE void AddQuads(const float*& x, const Words*& weights,
                         Words (&integers)[kRows][kVectors]) {
  Words w[kVectors];
  MEA_UNROLL
  for (int c = 0; c < kVectors; ++c) w[c] = weights[c];
  MEA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    auto quads = (Words)InAllLanes(x[r]);
    // In registers: GCC would make the quads a memory operand of all their uses.
    if constexpr (kVectors > 1) asm("" : "+v"(quads));
    MEA_UNROLL
    for (int c = 0; c < kVectors; ++c) {
      integers[r][c] = DotBytes(integers[r][c], w[c], quads);
      if constexpr (kVectors > 1) asm("" : "+v"(integers[r][c]));
    }
  }
  x += kRows;
  weights += kVectors;
}

// The instruction takes one factor without a sign. That is the weight plus 128; what this adds to a
// sum, 128 times the sum of x, is taken off before: an offset of each group of each row.
constexpr int kUnsigned = 128;

// A group of k is a unit of the weights.
struct VnniKind {
  using Weight = int8_t;
  using Groups = ByteGroups;
  using X = RoundedRows<kGroup, kUnsigned>;
  using Preparation = PlainWeights<Weight, static_cast<int32_t>(0x01010101u * kUnsigned)>;
  static constexpr int kUnitVectors = kGroup / 4;
  static constexpr int kPreparedVectors = kUnitVectors;

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
      for (int c = 0; c < kVectors; ++c) integers[r][c] = (Words)InAllLanes(x[kRows + r]);
    }
    x += 2 * kRows;
    for (int i = 0; i < kUnitVectors; ++i) {
      ahead.Read();
      AddQuads(x, weights, integers);
    }
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

template <typename Kind>
constexpr ProductKernels kByteKernels = {
    .max_streamed_rows = Kind::Groups::kMaxFewRows,
    .packs_few_rows = true,
    .few_outs = kLanes,
    .many_outs = 4 * kTileOuts,
    .row_floats = Kind::RowFloats,
    .pack_rows = Kind::X::RoundRows,
    .multiply = MultiplyTransposed<Kind>,
    .loop = {.run = LoopOfBytes, .flops = 2 * 4 * kLanes* kLoopSums}};

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
