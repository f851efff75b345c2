#include "kernels/cpu/vnni_matmul.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/transposed-inl.h"
#include "kernels/int8_rows.h"

namespace mea::cpu {

bool HasVnniProducts() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

HWY_PUSH_ATTRIBUTES(MEA_AVX512_TARGET ",avx512vnni")

namespace {

// The instruction takes one factor without a sign. That is the weight plus 128; what this adds to a
// sum, 128 times the sum of x, is taken off before: an offset of each group of each row.
constexpr int kUnsigned = 128;

constexpr int kGroupQuads = kGroup / 4;
// Elements of k in a vector of weights as they lie in memory.
constexpr int kStepDepth = 64;
static_assert(kStepDepth % kGroup == 0 && kPanelDepth % kStepDepth == 0);
// A register tile has 12 integer sums, 12 of floats, two vectors of weights, one of x.
using QuadGroups = RowGroups<6>;

// Packed memory holds, for each group of rows and then each group of k, [rows] scales, [rows]
// offsets and [kGroupQuads][rows] quads.
constexpr int kGroupFloats = 2 + kGroupQuads;

int64_t GroupsOf(int64_t k) { return (k + kGroup - 1) / kGroup; }
int64_t PackedRowFloats(int64_t k) { return GroupsOf(k) * kGroupFloats; }

HWY_INLINE __mmask64 FirstBytes(int64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << std::max<int64_t>(count, 0)) - 1;
}

// A group is rounded with the scale of its largest |x|, or of NaN where one is infinite or not a
// number: that makes every product of the row NaN, whatever the integers. As integers, the floats
// above zero are in order and NaN is the largest.
constexpr int32_t kInfinityBits = 0x7f800000;
constexpr float kLeastTop = 0x1p-100f;  // below, one over the scale would overflow

// Rounds a group of one row, at `depth` elements before the end of k.
HWY_INLINE void RoundGroup(const float* x, int64_t depth, int num_rows, float* packed) {
  const __m512 v = _mm512_maskz_loadu_ps(FirstLanes(depth), x);
  const int32_t bits = _mm512_reduce_max_epi32((__m512i)_mm512_abs_ps(v));
  const float largest = std::max(std::bit_cast<float>(bits), kLeastTop);
  const bool is_finite = bits < kInfinityBits;
  const __m512 inverse = _mm512_set1_ps(is_finite ? 127.0f / largest : 0.0f);
  const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
  alignas(16) float quads[kGroupQuads];
  _mm_store_si128(reinterpret_cast<__m128i*>(quads), _mm512_cvtsepi32_epi8(rounded));
  packed[0] = is_finite ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
  packed[num_rows] = std::bit_cast<float>(-kUnsigned * _mm512_reduce_add_epi32(rounded));
  for (int j = 0; j < kGroupQuads; ++j) packed[(2 + j) * num_rows] = quads[j];
}

// The same for a group of up to sixteen rows: transposed, each in its lane.
HWY_INLINE void RoundGroups(const float* x, int64_t x_stride, int64_t depth, int num_rows,
                            float* packed) {
  __m512i v[16];
  for (int r = 0; r < 16; ++r) {
    v[r] =
        (__m512i)_mm512_maskz_loadu_ps(FirstLanes(depth), x + std::min(r, num_rows - 1) * x_stride);
  }
  Transpose(v);
  __m512i bits = _mm512_setzero_si512();
  for (const __m512i& column : v) {
    bits = _mm512_max_epi32(bits, (__m512i)_mm512_abs_ps((__m512)column));
  }
  const __mmask16 is_finite = _mm512_cmplt_epi32_mask(bits, _mm512_set1_epi32(kInfinityBits));
  const __m512 largest = _mm512_max_ps((__m512)bits, _mm512_set1_ps(kLeastTop));
  const __m512 inverse = _mm512_maskz_div_ps(is_finite, _mm512_set1_ps(127.0f), largest);
  __m512i sum = _mm512_setzero_si512();
  __m512i quads[kGroupQuads];
  for (int j = 0; j < kGroupQuads; ++j) {
    quads[j] = _mm512_setzero_si512();
    for (int i = 3; i >= 0; --i) {
      const __m512 column = (__m512)v[4 * j + i];
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(column, inverse));
      sum = _mm512_add_epi32(sum, rounded);
      quads[j] = _mm512_or_si512(_mm512_slli_epi32(quads[j], 8),
                                 _mm512_and_si512(rounded, _mm512_set1_epi32(0xff)));
    }
  }
  const __mmask16 lanes = FirstLanes(num_rows);
  const __m512 nan = _mm512_set1_ps(std::numeric_limits<float>::quiet_NaN());
  _mm512_mask_storeu_ps(packed, lanes,
                        _mm512_mask_div_ps(nan, is_finite, largest, _mm512_set1_ps(127.0f)));
  _mm512_mask_storeu_epi32(packed + num_rows, lanes,
                           _mm512_mullo_epi32(sum, _mm512_set1_epi32(-kUnsigned)));
  for (int j = 0; j < kGroupQuads; ++j) {
    _mm512_mask_storeu_epi32(packed + (2 + j) * num_rows, lanes, quads[j]);
  }
}

void RoundToBytes(const float* x, int64_t x_stride, int num_rows, int64_t k, float* packed) {
  const QuadGroups rows(num_rows);
  for (int group = 0; group < rows.num_groups; ++group) {
    const float* row = x + rows.RowOf(group) * x_stride;
    const int count = rows.RowsOf(group);
    float* target = packed + rows.RowOf(group) * PackedRowFloats(k);
    for (int64_t i = 0; i < k; i += kGroup, target += count * kGroupFloats) {
      if (count >= QuadGroups::kLeast) {
        RoundGroups(row + i, x_stride, k - i, count, target);
        continue;
      }
      for (int r = 0; r < count; ++r) {
        RoundGroup(row + r * x_stride + i, k - i, count, target + r);
      }
    }
  }
}

// The weights of sixteen outputs, from element i of `depth` on, transposed: quad j of each in v[j],
// plus kUnsigned. Behind the end of k they meet zeros, and no byte there is read.
HWY_INLINE void LoadTransposed(const int8_t* const (&rows)[kOuts], int64_t i, int64_t depth,
                               __m512i (&v)[16]) {
  const __mmask64 inside = FirstBytes(depth - i);
  for (int o = 0; o < kOuts; ++o) v[o] = _mm512_maskz_loadu_epi8(inside, rows[o] + i);
  Transpose(v);
  for (__m512i& quads : v) {
    quads = _mm512_xor_si512(quads, _mm512_set1_epi8(static_cast<char>(kUnsigned)));
  }
}

// The scales of these weights.
HWY_INLINE __m512 ScalesOf(const MatMulBlock& block, int out) {
  const int8_t* rows[kOuts];
  RowsFrom(block, out, rows);
  alignas(64) float scales[kOuts];
  for (int o = 0; o < kOuts; ++o) scales[o] = Int8Scale(rows[o], block.k);
  return _mm512_load_ps(scales);
}

HWY_INLINE __m512i InAllLanes(float bits) { return (__m512i)_mm512_set1_ps(bits); }

HWY_INLINE __m512 AddScaled(__m512 sum, __m512i integers, float scale) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(scale), sum);
}

// Few rows: sixteen outputs at a time, whose weights are transposed in registers and meet all rows.
// Memory is read ahead by as many outputs, as it lies.
template <int kRows>
void StreamBytes(const MatMulBlock& block) {
  for (int out = 0; out < block.num_outs; out += kOuts) {
    const int8_t* rows[kOuts];
    RowsFrom(block, out, rows);
    auto* ahead = static_cast<const char*>(block.w) + (out + kOuts) * block.w_stride;
    const float* x = block.x;
    __m512 sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < block.k; i += kStepDepth) {
      __m512i transposed[16];
      LoadTransposed(rows, i, block.k, transposed);
      alignas(64) __m512i weights[16];
      for (int j = 0; j < 16; ++j) _mm512_store_si512(weights + j, transposed[j]);
      asm("" : "+m"(weights));
      const auto num_groups = static_cast<int>(std::min<int64_t>(4, GroupsOf(block.k - i)));
      for (int g = 0; g < num_groups; ++g) {
        for (int j = 0; j < 4; ++j, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T0);
        const float* scales = x;
        __m512i integers[kRows];
        for (int r = 0; r < kRows; ++r) integers[r] = InAllLanes(x[kRows + r]);
        x += 2 * kRows;
        // Not unrolled: GCC would mix the quads, and spill the sums.
        int num_quads = kGroupQuads;
        asm("" : "+r"(num_quads));
        for (int j = 0; j < num_quads; ++j, x += kRows) {
          const __m512i w = _mm512_load_si512(weights + g * kGroupQuads + j);
          for (int r = 0; r < kRows; ++r) {
            integers[r] = _mm512_dpbusd_epi32(integers[r], w, InAllLanes(x[r]));
          }
        }
        for (int r = 0; r < kRows; ++r) sums[r] = AddScaled(sums[r], integers[r], scales[r]);
      }
    }
    const __mmask16 lanes = FirstLanes(block.num_outs - out);
    const __m512 scales = ScalesOf(block, out);
    const __m512 bias = BiasOf(block, out, lanes);
    for (int r = 0; r < kRows; ++r) {
      _mm512_mask_storeu_ps(block.out + r * block.out_stride + out, lanes,
                            _mm512_fmadd_ps(sums[r], scales, bias));
    }
  }
}

// Transposes a stretch of the weights of a tile's outputs into [quad][kTileVectors][kOuts].
void TransposePanel(const MatMulBlock& block, int out, Stretch k, float* panel) {
  for (int c = 0; c < kTileVectors; ++c) {
    const int8_t* rows[kOuts];
    RowsFrom(block, out + c * kOuts, rows);
    for (const int8_t*& row : rows) row += k.begin;
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
  const int64_t num_groups = GroupsOf(panel.k.depth());
  for (int64_t i = 0; i < num_groups; ++i) {
    const float* scales = x;
    __m512i integers[kRows][kTileVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kTileVectors; ++c) integers[r][c] = InAllLanes(x[kRows + r]);
    }
    x += 2 * kRows;
    // Not unrolled: GCC would mix the quads, and spill the sums.
    int num_quads = kGroupQuads;
    asm("" : "+r"(num_quads));
    for (int j = 0; j < num_quads; ++j, x += kRows, weights += kTileOuts) {
      _mm_prefetch(ahead, _MM_HINT_T0);
      ahead += panel.ahead_step;
      __m512i w[kTileVectors];
      for (int c = 0; c < kTileVectors; ++c) w[c] = _mm512_load_si512(weights + c * kOuts);
      for (int r = 0; r < kRows; ++r) {
        __m512i quads = InAllLanes(x[r]);
        // In a register: GCC would make it a memory operand of all its uses.
        asm("" : "+v"(quads));
        for (int c = 0; c < kTileVectors; ++c) {
          integers[r][c] = _mm512_dpbusd_epi32(integers[r][c], w[c], quads);
          asm("" : "+v"(integers[r][c]));
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kTileVectors; ++c) {
        sums[r][c] = AddScaled(sums[r][c], integers[r][c], scales[r]);
      }
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
    const __m512 scales = ScalesOf(block, out);
    const __m512 bias = BiasOf(block, out, lanes);
    float* target = block.out + row * block.out_stride + out;
    for (int r = 0; r < kRows; ++r, target += block.out_stride) {
      _mm512_mask_storeu_ps(target, lanes, _mm512_fmadd_ps(sums[r][c], scales, bias));
    }
  }
}

struct VnniKind {
  using Weight = int8_t;
  using Groups = QuadGroups;
  static constexpr auto RowFloats = PackedRowFloats;
  static constexpr auto TransposePanel = mea::cpu::TransposePanel;
  static constexpr MultiplyPanelFn kMultiplyPanel[] = {MultiplyPanel<4>, MultiplyPanel<5>,
                                                       MultiplyPanel<6>};
};

constexpr void (*kStreams[])(const MatMulBlock&) = {StreamBytes<1>, StreamBytes<2>, StreamBytes<3>,
                                                    StreamBytes<4>, StreamBytes<5>, StreamBytes<6>,
                                                    StreamBytes<7>, StreamBytes<8>};

void MultiplyBytes(const MatMulBlock& block, float* scratch) {
  if (scratch != nullptr) return MultiplyMany<VnniKind>(block, scratch);
  kStreams[block.num_rows - 1](block);
}

constexpr int kLoopSums = 16;

void LoopOfBytes(int64_t rounds) {
  __m512i sums[kLoopSums];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < kLoopSums; ++i) {
      __m512i sum = _mm512_dpbusd_epi32(sums[i], ones, ones);
      asm volatile("" : "+v"(sum));
      sums[i] = sum;
    }
  }
}

}  // namespace

HWY_POP_ATTRIBUTES

ProductKernels GetVnniMatMulKernels() {
  return {.max_streamed_rows = kMaxFewRows,
          .packs_few_rows = true,
          .few_outs = kOuts,
          .many_outs = 4 * kTileOuts,
          .row_floats = PackedRowFloats,
          .pack_rows = RoundToBytes,
          .multiply = MultiplyBytes,
          .loop = {.run = LoopOfBytes, .flops = 2 * kLoopSums * kStepDepth}};
}

}  // namespace mea::cpu
