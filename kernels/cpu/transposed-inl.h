#pragma once

// For products whose lanes are outputs: sixteen rows of weights are transposed, so that a vector
// holds the same four bytes of k of each. Every lane then adds up its element of the result along
// k: no sums over lanes, and few rows and many rows add in the same order.
//
// Few rows: the weights of sixteen outputs are transposed in registers and meet all rows at once.
// Many rows: a stretch of the weights of a tile's outputs is transposed into a panel, which stays
// in the first-level cache while the groups of rows pass by. Meanwhile memory is read ahead by as
// many outputs, in the order in which it lies: the streams that go through the rows of weights are
// too short to be recognised.

#include <hwy/base.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "kernels/cpu/matmul.h"

// GCC takes the registers that its own header leaves undefined for mistakes.
HWY_DIAGNOSTICS(push)
#if HWY_COMPILER_GCC_ACTUAL
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wmaybe-uninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wuninitialized")
#endif
#include <immintrin.h>
HWY_DIAGNOSTICS(pop)

#define MEA_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl"

HWY_PUSH_ATTRIBUTES(MEA_AVX512_TARGET)
namespace mea::cpu {
namespace {

constexpr int kOuts = 16;  // lanes

// Vectors of outputs of a register tile where rows are many.
constexpr int kTileVectors = 2;
constexpr int kTileOuts = kTileVectors * kOuts;

// Elements [begin, end) of k.
struct Stretch {
  int64_t begin;
  int64_t end;

  int64_t depth() const { return end - begin; }
};
Stretch StretchAt(int64_t begin, int64_t k) {
  return {.begin = begin, .end = std::min(k, begin + kPanelDepth)};
}

// Up to so many rows are few.
constexpr int kMaxFewRows = 8;

// The groups of rows that meet the weights together. Few rows are one group; many are dealt evenly
// to groups of at most kMost, and to two or more: one alone would have to read ahead too fast.
template <int kMost>
struct RowGroups {
  static constexpr int kMostRows = kMost;
  static constexpr int kLeast = 4;  // of many rows
  static_assert(kMost >= 6 && kMaxFewRows >= 2 * kLeast - 1);

  int num_rows;
  int num_groups;

  explicit RowGroups(int rows)
      : num_rows(rows),
        num_groups(rows <= kMaxFewRows ? 1 : std::max(2, (rows + kMost - 1) / kMost)) {}
  int RowOf(int group) const { return group * num_rows / num_groups; }
  int RowsOf(int group) const { return RowOf(group + 1) - RowOf(group); }
};

// The lowest `count` lanes, at most all of them.
HWY_INLINE __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << std::max<int64_t>(count, 0)) - 1);
}
HWY_INLINE __mmask32 FirstHalves(int64_t count) {
  return count >= 32 ? 0xffffffffu : (1u << std::max<int64_t>(count, 0)) - 1;
}

// Transposes sixteen rows of sixteen 32-bit elements.
HWY_INLINE void Transpose(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  // Lane l of v[4 g + c] holds element 4 l + c of rows 4 g to 4 g + 3.
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512i even_low = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xdd);
    t[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    t[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    t[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    t[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

HWY_INLINE __m512 BiasOf(const MatMulBlock& block, int out, __mmask16 lanes) {
  return block.bias == nullptr ? _mm512_setzero_ps()
                               : _mm512_maskz_loadu_ps(lanes, block.bias + out);
}

// The rows of weights of sixteen outputs from `out` on; behind the last one, that one again.
template <typename W>
HWY_INLINE void RowsFrom(const MatMulBlock& block, int out, const W* (&rows)[kOuts]) {
  for (int o = 0; o < kOuts; ++o) {
    rows[o] =
        static_cast<const W*>(block.w) + std::min(out + o, block.num_outs - 1) * block.w_stride;
  }
}

// A panel of weights, [step][kTileVectors][kOuts] times four bytes.
struct Panel {
  const MatMulBlock& block;
  int out;    // its first output
  Stretch k;  // its elements
  const float* weights;
  int64_t ahead_step;  // bytes by which each step of each group reads ahead
};

// One group of rows, whose first one is `row`, against a panel. Its sums are in `kept`, [rows of
// the group][kTileOuts], between two stretches.
using MultiplyPanelFn = void (*)(const Panel& panel, int row, const float* x, const char* ahead,
                                 float* kept);

// `Kind` has the type of the weights, the groups of rows, the floats in which a row of x is packed,
// and what works on a panel: the function that makes it, and those that multiply groups of 4 rows
// and more by it.
template <typename Kind>
void MultiplyMany(const MatMulBlock& block, float* scratch) {
  using Groups = typename Kind::Groups;
  using Weight = typename Kind::Weight;
  static_assert(std::size(Kind::kMultiplyPanel) == Groups::kMostRows - Groups::kLeast + 1);
  const Groups rows(block.num_rows);
  float* const weights = scratch;
  float* const kept = scratch + kTileOuts * kPanelDepth / 2;
  constexpr int64_t kStepBytes = 4 * kTileOuts;
  const int64_t ahead_step = (kStepBytes + rows.num_groups - 1) / rows.num_groups;
  for (int out = 0; out < block.num_outs; out += kTileOuts) {
    auto* ahead = reinterpret_cast<const char*>(static_cast<const Weight*>(block.w) +
                                                (out + kTileOuts) * block.w_stride);
    for (Stretch k = StretchAt(0, block.k); k.begin < block.k; k = StretchAt(k.end, block.k)) {
      Kind::TransposePanel(block, out, k, weights);
      const Panel panel = {
          .block = block, .out = out, .k = k, .weights = weights, .ahead_step = ahead_step};
      for (int group = 0; group < rows.num_groups; ++group) {
        const int row = rows.RowOf(group);
        const int count = rows.RowsOf(group);
        const float* x =
            block.x + row * Kind::RowFloats(block.k) + count * Kind::RowFloats(k.begin);
        Kind::kMultiplyPanel[count - Groups::kLeast](panel, row, x, ahead, kept + row * kTileOuts);
        ahead += k.depth() * int64_t{sizeof(Weight)} / 4 * ahead_step;
      }
    }
  }
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
