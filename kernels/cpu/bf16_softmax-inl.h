// Softmax of rows over one block whose weights are rounded to BF16 pairs: what surrounds the
// products of bf16_tile-inl.h in a prompt takes as long as they do unless it is short.
#if defined(MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#undef MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#else
#define MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/attention_record-inl.h"
#include "kernels/cpu/tile-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
namespace mea {
namespace HWY_NAMESPACE {

// e^x with relative error below 4e-6 for x <= 0; exactly 1 at 0 and 0 at minus infinity.
HWY_INLINE __m512 ExpOfWeight(__m512 x) {
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  // 2^t is 2^floor(t) times 2^r, a minimax polynomial of r in [0, 1).
  constexpr int kFraction = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 r = _mm512_reduce_ps(t, kFraction);
  __m512 p = _mm512_set1_ps(0.0134266838f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0522424728f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.241280198f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693044841f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, t);
}

// The sums, or maxima, over the lanes of 16 vectors: lane r of the result is that of v[r]. A fifth
// of the instructions that one vector after the other takes.
template <typename Op>
HWY_INLINE __m512 OverLanes(const __m512 (&v)[16], Op op) {
  __m512 twos[8], fours[4], eights[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    twos[i] =
        op(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(twos[2 * i]), b = _mm512_castps_pd(twos[2 * i + 1]);
    fours[i] =
        op(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    eights[i] = op(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x44),
                   _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xee));
  }
  return op(_mm512_shuffle_f32x4(eights[0], eights[1], 0x88),
            _mm512_shuffle_f32x4(eights[0], eights[1], 0xdd));
}

// The sum of one vector, in the order of OverLanes.
HWY_INLINE float SumInItsOrder(__m512 v) {
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
  v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0x4e));
  v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
  return _mm512_cvtss_f32(v);
}

// The scores of a row, in order. Tokens that it does not see may be NaN: tokens not written yet
// share its tile.
constexpr int kScoreVectors = kBlockTokens / 16;
static_assert(kScoreVectors == 4 && kBlockTokens == 64);
HWY_INLINE void LoadScores(const float* scores, TokenRange visible, __m512 (&v)[kScoreVectors]) {
  const uint64_t seen = ~uint64_t{0} >> (kBlockTokens - visible.end) >> visible.begin
                                                                            << visible.begin;
#pragma GCC unroll 4
  for (int i = 0; i < kScoreVectors; ++i) {
    v[i] = _mm512_mask_loadu_ps(_mm512_set1_ps(kMinusInfinity),
                                static_cast<__mmask16>(seen >> (16 * i)), scores + 16 * i);
  }
}
HWY_INLINE __m512 Highest(const __m512 (&v)[kScoreVectors]) {
  return _mm512_max_ps(_mm512_max_ps(v[0], v[1]), _mm512_max_ps(v[2], v[3]));
}
// Stores the weights in pairs; what is left to add up is returned.
HWY_INLINE __m512 StoreWeights(__m512 (&v)[kScoreVectors], __m512 max, float* weights) {
#pragma GCC unroll 4
  for (int i = 0; i < kScoreVectors; ++i) v[i] = ExpOfWeight(_mm512_sub_ps(v[i], max));
  _mm512_storeu_si512(weights, (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
  _mm512_storeu_si512(weights + 16, (__m512i)_mm512_cvtne2ps_pbh(v[3], v[2]));
  return _mm512_add_ps(_mm512_add_ps(v[0], v[1]), _mm512_add_ps(v[2], v[3]));
}

template <>
inline void SoftmaxRow<DotBf16>(float* scores, TokenRange visible, float* record,
                                int64_t record_floats) {
  __m512 v[kScoreVectors];
  LoadScores(scores, visible, v);
  const float before = record[0];
  const float max = std::max(before, Max(Vec{Highest(v)}));
  const float sum = SumInItsOrder(StoreWeights(v, _mm512_set1_ps(max), scores));
  // Where the maximum stays, the factor is exactly 1.
  const float factor = max == before ? 1.0f : ScalarExp(before - max);
  record[0] = max;
  record[1] = std::fma(record[1], factor, sum);
  ScaleRecord(record, record_floats, factor);
}

// 16 rows together: no row waits for its maximum and its sum, and where the maximum of a row
// changes, which nothing predicts, it is one surprise for all.
template <>
inline void SoftmaxRows<DotBf16>(float* scores, const TokenRange* visible, int num_rows,
                                 float* records, int64_t record_floats) {
  if (num_rows < kSoftmaxRows) {
    return SoftmaxOneByOne<DotBf16>(scores, visible, num_rows, records, record_floats);
  }
  __m512 highest[kSoftmaxRows], sums[kSoftmaxRows];
  HWY_ALIGN float before[kSoftmaxRows], old_sum[kSoftmaxRows], max[kSoftmaxRows];
  HWY_ALIGN float factor[kSoftmaxRows], sum[kSoftmaxRows];
  for (int r = 0; r < kSoftmaxRows; ++r) {
    __m512 v[kScoreVectors];
    LoadScores(scores + r * kBlockTokens, visible[r], v);
    highest[r] = Highest(v);
    before[r] = records[r * record_floats];
    old_sum[r] = records[r * record_floats + 1];
  }
  const __m512 old_max = _mm512_load_ps(before);
  // In this order a maximum that is NaN is passed over, as by std::max.
  const __m512 new_max = _mm512_max_ps(
      OverLanes(highest, [](__m512 a, __m512 b) HWY_ATTR { return _mm512_max_ps(a, b); }), old_max);
  _mm512_store_ps(max, new_max);
  for (int r = 0; r < kSoftmaxRows; ++r) {
    __m512 v[kScoreVectors];
    LoadScores(scores + r * kBlockTokens, visible[r], v);
    sums[r] = StoreWeights(v, _mm512_set1_ps(max[r]), scores + r * kBlockTokens);
  }
  const __m512 factors = Exp(Vec{_mm512_sub_ps(old_max, new_max)}).raw;
  const __m512 new_sum =
      OverLanes(sums, [](__m512 a, __m512 b) HWY_ATTR { return _mm512_add_ps(a, b); });
  _mm512_store_ps(factor, factors);
  _mm512_store_ps(sum, _mm512_fmadd_ps(_mm512_load_ps(old_sum), factors, new_sum));
  for (int r = 0; r < kSoftmaxRows; ++r) {
    records[r * record_floats] = max[r];
    records[r * record_floats + 1] = sum[r];
  }
  unsigned changed = _mm512_cmp_ps_mask(new_max, old_max, _CMP_NEQ_UQ);
  for (; changed != 0; changed &= changed - 1) {
    const int r = std::countr_zero(changed);
    ScaleRecord(records + r * record_floats, record_floats, factor[r]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_POP_ATTRIBUTES
#endif

#endif
