#include "kernels/cpu/bf16_matmul.h"

#include <algorithm>

#include "kernels/cpu/transposed-inl.h"

namespace mea::cpu {

bool HasBf16Products() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

HWY_PUSH_ATTRIBUTES(MEA_AVX512_TARGET ",avx512bf16")

namespace {

constexpr int kStepDepth = 32;  // elements of k in a vector of weights as they lie in memory

// A register tile has 24 sums, two vectors of weights, one of x.
using PairGroups = RowGroups<12>;

// Packed memory holds [group of rows][pair of k][rows] pairs.
int64_t PairsOf(int64_t k) { return (k + 1) / 2; }

void RoundRows(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed) {
  const PairGroups rows(num_rows);
  for (int group = 0; group < rows.num_groups; ++group) {
    const int begin = rows.RowOf(group);
    const int count = rows.RowsOf(group);
    const __mmask16 lanes = FirstLanes(count);
    float* target = packed + begin * PairsOf(k);
    for (int64_t i = 0; i < k; i += kStepDepth) {
      const __mmask16 low = FirstLanes(k - i);
      const __mmask16 high = FirstLanes(k - i - 16);
      __m512i pairs[16];
      for (int r = 0; r < 16; ++r) {
        const float* row = x + (begin + std::min(r, count - 1)) * x_stride + i;
        const __m512 first = _mm512_maskz_loadu_ps(low, row);
        const __m512 second = _mm512_maskz_loadu_ps(high, row + 16);
        pairs[r] = (__m512i)_mm512_cvtne2ps_pbh(second, first);
      }
      Transpose(pairs);
      const int64_t num_pairs = std::min<int64_t>(16, PairsOf(k - i));
      for (int64_t j = 0; j < num_pairs; ++j, target += count) {
        _mm512_mask_storeu_epi32(target, lanes, pairs[j]);
      }
    }
  }
}

// The weights of sixteen outputs, from element i of `depth` on, transposed: pair j of each in v[j].
// Behind the end of k they are zeros, and no byte there is read.
HWY_INLINE void LoadTransposed(const Bf16* const (&rows)[kOuts], int64_t i, int64_t depth,
                               __m512i (&v)[16]) {
  const __mmask32 inside = FirstHalves(depth - i);
  for (int o = 0; o < kOuts; ++o) v[o] = _mm512_maskz_loadu_epi16(inside, rows[o] + i);
  Transpose(v);
}

HWY_INLINE __m512 AddProducts(__m512 sum, __m512i x, __m512i w) {
  return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

// Few rows: sixteen outputs at a time, whose weights are transposed in registers and meet all rows.
template <int kRows>
void StreamOuts(const MatMulBlock& block) {
  for (int out = 0; out < block.num_outs; out += kOuts) {
    const Bf16* rows[kOuts];
    RowsFrom(block, out, rows);
    auto* ahead = reinterpret_cast<const char*>(static_cast<const Bf16*>(block.w) +
                                                (out + kOuts) * block.w_stride);
    const float* x = block.x;
    __m512 sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < block.k; i += kStepDepth) {
      __m512i transposed[16];
      LoadTransposed(rows, i, block.k, transposed);
      alignas(64) __m512i weights[16];
      for (int j = 0; j < 16; ++j) _mm512_store_si512(weights + j, transposed[j]);
      const int64_t num_pairs = std::min<int64_t>(16, PairsOf(block.k - i));
      // Not unrolled: the transposed weights would stay in registers, and the sums would leave
      // them.
      asm("" : "+m"(weights));
      for (int64_t j = 0; j < num_pairs; ++j, x += kRows, ahead += 64) {
        _mm_prefetch(ahead, _MM_HINT_T0);  // one at a time: a burst would hold up the loads
        const __m512i w = _mm512_load_si512(weights + j);
        for (int r = 0; r < kRows; ++r) {
          sums[r] = AddProducts(sums[r], (__m512i)_mm512_set1_ps(x[r]), w);
        }
      }
    }
    const __mmask16 lanes = FirstLanes(block.num_outs - out);
    const __m512 bias = BiasOf(block, out, lanes);
    for (int r = 0; r < kRows; ++r) {
      _mm512_mask_storeu_ps(block.out + r * block.out_stride + out, lanes,
                            _mm512_add_ps(sums[r], bias));
    }
  }
}

// Transposes a stretch of the weights of a tile's outputs into [pair][kTileVectors][kOuts].
void TransposePanel(const MatMulBlock& block, int out, Stretch k, float* panel) {
  for (int c = 0; c < kTileVectors; ++c) {
    const Bf16* rows[kOuts];
    RowsFrom(block, out + c * kOuts, rows);
    for (const Bf16*& row : rows) row += k.begin;
    float* target = panel + c * kOuts;
    for (int64_t i = 0; i < k.depth(); i += kStepDepth) {
      __m512i transposed[16];
      LoadTransposed(rows, i, k.depth(), transposed);
      for (int j = 0; j < 16; ++j, target += kTileOuts) _mm512_store_si512(target, transposed[j]);
    }
  }
}

// One group of rows against a panel. Their sums lie in `kept` between two stretches.
template <int kRows>
void MultiplyPanel(const Panel& panel, int row, const float* x, const char* ahead, float* kept) {
  const MatMulBlock& block = panel.block;
  const float* weights = panel.weights;
  __m512 sums[kRows][kTileVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kTileVectors; ++c) {
      sums[r][c] = panel.k.begin == 0 ? _mm512_setzero_ps()
                                      : _mm512_load_ps(kept + r * kTileOuts + c * kOuts);
    }
  }
  const int64_t num_pairs = PairsOf(panel.k.depth());
  for (int64_t i = 0; i < num_pairs; ++i, x += kRows, weights += kTileOuts) {
    _mm_prefetch(ahead, _MM_HINT_T0);
    ahead += panel.ahead_step;
    __m512i w[kTileVectors];
    for (int c = 0; c < kTileVectors; ++c) w[c] = _mm512_load_si512(weights + c * kOuts);
    for (int r = 0; r < kRows; ++r) {
      __m512i pair = (__m512i)_mm512_set1_ps(x[r]);
      // In a register: GCC would make it a memory operand of all its uses.
      asm("" : "+v"(pair));
      for (int c = 0; c < kTileVectors; ++c) sums[r][c] = AddProducts(sums[r][c], pair, w[c]);
    }
  }
  if (panel.k.end < block.k) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kTileVectors; ++c) {
        _mm512_store_ps(kept + r * kTileOuts + c * kOuts, sums[r][c]);
      }
    }
    return;
  }
  for (int c = 0; c < kTileVectors; ++c) {
    const int out = panel.out + c * kOuts;
    const __mmask16 lanes = FirstLanes(block.num_outs - out);
    const __m512 bias = BiasOf(block, out, lanes);
    float* target = block.out + row * block.out_stride + out;
    for (int r = 0; r < kRows; ++r, target += block.out_stride) {
      _mm512_mask_storeu_ps(target, lanes, _mm512_add_ps(sums[r][c], bias));
    }
  }
}

struct Bf16Kind {
  using Weight = Bf16;
  using Groups = PairGroups;
  static constexpr auto RowFloats = PairsOf;
  static constexpr auto TransposePanel = mea::cpu::TransposePanel;
  static constexpr MultiplyPanelFn kMultiplyPanel[] = {
      MultiplyPanel<4>, MultiplyPanel<5>,  MultiplyPanel<6>,  MultiplyPanel<7>, MultiplyPanel<8>,
      MultiplyPanel<9>, MultiplyPanel<10>, MultiplyPanel<11>, MultiplyPanel<12>};
};

constexpr void (*kStreams[])(const MatMulBlock&) = {StreamOuts<1>, StreamOuts<2>, StreamOuts<3>,
                                                    StreamOuts<4>, StreamOuts<5>, StreamOuts<6>,
                                                    StreamOuts<7>, StreamOuts<8>};

void MultiplyBf16(const MatMulBlock& block, float* scratch) {
  if (scratch != nullptr) return MultiplyMany<Bf16Kind>(block, scratch);
  kStreams[block.num_rows - 1](block);
}

constexpr int kLoopSums = 16;

void LoopOfBf16(int64_t rounds) {
  __m512 sums[kLoopSums];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const __m512i ones = _mm512_set1_epi16(0x3f80);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kLoopSums; ++i) {
      __m512 sum = AddProducts(sums[i], ones, ones);
      asm volatile("" : "+v"(sum));
      sums[i] = sum;
    }
  }
}

}  // namespace

HWY_POP_ATTRIBUTES

ProductKernels GetBf16MatMulKernels() {
  return {.max_streamed_rows = kMaxFewRows,
          .packs_few_rows = true,
          .few_outs = kOuts,
          .many_outs = 4 * kTileOuts,
          .row_floats = PairsOf,
          .pack_rows = RoundRows,
          .multiply = MultiplyBf16,
          .loop = {.run = LoopOfBf16, .flops = 2 * kLoopSums * kStepDepth}};
}

}  // namespace mea::cpu
