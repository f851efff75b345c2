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
  static constexpr int kUnitVectors = kInt4BlockBytes / 4;
  // The scales of its group, the pairs, and the quads of the low and the high halves.
  static constexpr int kPreparedVectors = 2 + 2 * kUnitVectors;
  static constexpr int64_t kMostDepth = 512;

  static constexpr int64_t BytesOf(int64_t k) { return Int4GroupsOffset(k); }
  static constexpr int FewVectors(int) { return 1; }
  static int64_t RowFloats(int64_t k) { return X::RowFloats(k); }

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
        const Words pairs = PairsOf(std::min(i, k_ - 1) >> log_group_);
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

   private:
    static constexpr int32_t kLowHalves = 0x0f0f0f0f;

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

    // As ToFloat(F16), of numbers that are finite.
    static HWY_INLINE Floats ScalesIn(Words pairs) {
      const Words sizes = (pairs & 0x7fff) << 13;
      return (Floats)((Words)((Floats)sizes * 0x1p112f) | (pairs & 0x8000) << 16);
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

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
