#pragma once

// Products of bytes with weights in 4 bits (vnni_matmul.h). The file that includes this has
// included vnni_matmul-inl.h.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/vnni_matmul.h"
#include "kernels/int4_rows.h"

HWY_PUSH_ATTRIBUTES(MEA_PRODUCT_TARGET)
namespace mea::cpu {
namespace {

struct Int4Kind {
  using Weight = Int4Pair;
  using Groups = ByteGroups;
  // A block of x and of weights is a unit. Its zero, times the sum of x, is taken off by a product
  // of pairs of 16 bits: the weights' is an Int4Group, and x's is 0 and less the sum.
  using X = RoundedRows<kInt4Block, 1 << 16>;
  static constexpr bool kBeginsAnywhere = false;
  static constexpr int kUnitVectors = kInt4BlockBytes / 4;
  // The scales of its group, the pairs, and the quads of the low and the high halves.
  static constexpr int kPreparedVectors = 2 + 2 * kUnitVectors;
  static constexpr int64_t kMostDepth = 512;

  static constexpr int64_t BytesOf(int64_t k) { return Int4GroupsOffset(k); }
  static constexpr int FewVectors(int) { return 1; }
  static int64_t RowFloats(int64_t k) { return X::RowFloats(k); }

  static constexpr int32_t kLowHalves = 0x0f0f0f0f;

  // The groups of a vector of outputs, some of them at a time.
  class Preparation {
   public:
    HWY_INLINE Preparation(const MatMulBlock& block, const Weight* const* rows)
        : k_(block.k),
          group_(block.w_group),
          log_group_(std::countr_zero(static_cast<unsigned>(block.w_group))),
          rows_(rows) {}

    HWY_INLINE void operator()(const Words (&v)[kLanes], int64_t i, Words* to, int apart) {
      for (int first = 0; first < kLanes; first += kUnitVectors, i += kInt4Block) {
        const Words pairs = PairsAt(i);
        *to = (Words)ScalesIn(pairs);
        to += apart;
        *to = pairs;
        to += apart;
        for (int j = 0; j < kUnitVectors; ++j, to += apart) {
          to[0] = v[first + j] & kLowHalves;
          to[kUnitVectors * apart] = v[first + j] >> 4 & kLowHalves;
        }
        to += kUnitVectors * apart;
      }
    }

    // The Int4Groups of element i.
    HWY_INLINE Words PairsAt(int64_t i) { return PairsOf(std::min(i, k_ - 1) >> log_group_); }

    // As ToFloat(F16), of numbers that are finite.
    static HWY_INLINE Floats ScalesIn(Words pairs) {
      const Words sizes = (pairs & 0x7fff) << 13;
      return (Floats)((Words)((Floats)sizes * 0x1p112f) | (pairs & 0x8000) << 16);
    }

   private:
    // The Int4Groups of a group of k.
    HWY_INLINE Words PairsOf(int64_t group) {
      if (group - first_ >= kLanes) {
        first_ = group;
        const FirstBytes inside(4 * (Int4Groups(k_, group_) - first_));
        for (int lane = 0; lane < kLanes; ++lane) {
          groups_[lane] = inside.Load(Int4GroupsOf(rows_[lane], k_) + first_);
        }
        Transpose(groups_);
      }
      return groups_[group - first_];
    }

    const int64_t k_;
    const int group_;  // a power of two
    const int log_group_;
    const Weight* const* const rows_;
    int64_t first_ = -kLanes;
    Words groups_[kLanes];
  };

  template <int kRows, int kVectors, int kLines>
  static HWY_INLINE void Multiply(const float*& x, const Words*& weights, ReadAhead<kLines>& ahead,
                                  Floats (&sums)[kRows][kVectors]) {
    const float* const scales = x;
    const auto* const w_scales = reinterpret_cast<const Floats*>(weights);
    weights += kVectors;
    Words integers[kRows][kVectors];
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MEA_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        integers[r][c] = MulPairs(weights[c], (Words)InAllLanes(x[kRows + r]));
      }
    }
    x += 2 * kRows;
    weights += kVectors;
    ahead.Read();  // of the groups
    for (int i = 0; i < kUnitVectors; ++i) {
      ahead.Read();
      AddQuads<X>(x + 2 * i, weights, integers);
      AddQuads<X>(x + 2 * i + 1, weights, integers);
    }
    x += kRows * X::kQuads;
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      MEA_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        sums[r][c] = MulAdd(__builtin_convertvector(integers[r][c], Floats),
                            w_scales[c] * InAllLanes(scales[r]), sums[r][c]);
      }
    }
  }

  struct Finish {
    Floats scales = {};
    Floats bias;

    HWY_INLINE Finish(const MatMulBlock& block, int out) : bias(BiasOf(block, out)) {
      const Weight* rows[kLanes];
      RowsOf(block, out, rows);
      for (int lane = 0; lane < kLanes; ++lane) {
        scales[lane] = Int4Scale(rows[lane], block.k, block.w_group);
      }
    }
    HWY_INLINE Floats operator()(Floats sum) const { return MulAdd(sum, scales, bias); }
  };
};

// One row, or two, meet the weights as they lie, a vector of each output, and what is transposed
// are the integers of their blocks: for so few rows these are less. The sums are the same.
template <int kRows>
HWY_INLINE void StreamBlocks(const MatMulBlock& block, int out) {
  using Kind = Int4Kind;
  using X = Kind::X;
  constexpr int kBlocks = kLanes / Kind::kUnitVectors;  // of a vector of an output
  const Int4Pair* rows[kLanes];
  RowsOf(block, out, rows);
  Kind::Preparation groups(block, rows);
  ReadAhead<1> ahead = {.next = reinterpret_cast<const char*>(rows[0] + kLanes * block.w_stride),
                        .step = kVectorBytes};
  const float* x = block.x;
  Floats sums[kRows] = {};
  for (int64_t i = 0; i < block.k; i += kBlocks * kInt4Block) {
    const auto num_blocks =
        static_cast<int>(std::min<int64_t>(kBlocks, UnitsOf<Kind>(block.k - i)));
    Words low[kRows] = {}, high[kRows] = {};
    MEA_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      if (b == num_blocks) break;
      const float* bytes = x + (b * X::kFloats + X::kFirstQuads) * kRows;
      MEA_UNROLL
      for (int r = 0; r < kRows; ++r, bytes += X::kQuads) {
        SetQuarter(bytes, b, low[r]);
        SetQuarter(bytes + X::kQuads / 2, b, high[r]);
      }
    }
    const FirstBytes inside(Kind::BytesOf(block.k - i));
    const int64_t begin = Kind::BytesOf(i);
    Words integers[kRows][kBlocks];
    MEA_UNROLL
    for (int four = 0; four < kLanes / 4; ++four) {
      Words products[kRows][4];
      MEA_UNROLL
      for (int j = 0; j < 4; ++j) {
        ahead.Read();
        const Words w = inside.Load(rows[4 * four + j] + begin);
        MEA_UNROLL
        for (int r = 0; r < kRows; ++r) {
          products[r][j] = DotBytes(DotBytes(Words{}, w & Kind::kLowHalves, low[r]),
                                    w >> 4 & Kind::kLowHalves, high[r]);
        }
      }
      MEA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const auto& [a, b, c, d] = products[r];
        integers[r][four] = AddQuarters(a, b, c, d);
      }
    }
    MEA_UNROLL
    for (int r = 0; r < kRows; ++r) TransposeQuarters(integers[r]);
    for (int b = 0; b < num_blocks; ++b) {
      ahead.Read();  // of the groups
      const Words pairs = groups.PairsAt(i + b * kInt4Block);
      const Floats scales = Kind::Preparation::ScalesIn(pairs);
      MEA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Words all = integers[r][b] + MulPairs(pairs, (Words)InAllLanes(x[kRows + r]));
        sums[r] = MulAdd(__builtin_convertvector(all, Floats), scales * InAllLanes(x[r]), sums[r]);
      }
      x += kRows * X::kFloats;
    }
  }
  const Kind::Finish finish(block, out);
  MEA_UNROLL
  for (int r = 0; r < kRows; ++r) StoreResult(block, r, out, finish(sums[r]));
}

template <>
void StreamTile<Int4Kind, 1, 1>(const MatMulBlock& block, int out) {
  StreamBlocks<1>(block, out);
}
template <>
void StreamTile<Int4Kind, 2, 1>(const MatMulBlock& block, int out) {
  StreamBlocks<2>(block, out);
}
}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
