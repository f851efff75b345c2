// Softmax of one row and block whose weights are rounded to BF16 pairs: what surrounds the products
// of bf16_tile-inl.h in a prompt takes as long as they do unless it is short.
#if defined(MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#undef MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#else
#define MEA_KERNELS_CPU_BF16_SOFTMAX_INL_H_
#endif

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

template <>
inline void SoftmaxRow<DotBf16>(float* scores, TokenRange visible, float* record,
                                int64_t record_floats) {
  constexpr int kVecs = kBlockTokens / 16;
  static_assert(kVecs == 4 && kBlockTokens == 64);
  // Tokens that the row does not see may be NaN: tokens not written yet share its tile.
  const uint64_t seen = ~uint64_t{0} >> (kBlockTokens - visible.end) >> visible.begin
                                                                            << visible.begin;
  const __m512 unseen = _mm512_set1_ps(kMinusInfinity);
  __m512 v[kVecs];
#pragma GCC unroll 4
  for (int i = 0; i < kVecs; ++i) {
    v[i] = _mm512_mask_loadu_ps(unseen, static_cast<__mmask16>(seen >> (16 * i)), scores + 16 * i);
  }
  const float before = record[0];
  const Vec highest = hn::Max(hn::Max(Vec{v[0]}, Vec{v[1]}), hn::Max(Vec{v[2]}, Vec{v[3]}));
  const float max = std::max(before, Max(highest));
  const __m512 max_everywhere = _mm512_set1_ps(max);
#pragma GCC unroll 4
  for (int i = 0; i < kVecs; ++i) v[i] = ExpOfWeight(_mm512_sub_ps(v[i], max_everywhere));
  const float sum = Sum(hn::Add(hn::Add(Vec{v[0]}, Vec{v[1]}), hn::Add(Vec{v[2]}, Vec{v[3]})));
  _mm512_storeu_si512(scores, (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
  _mm512_storeu_si512(scores + 16, (__m512i)_mm512_cvtne2ps_pbh(v[3], v[2]));
  if (max == before) {
    record[1] += sum;
    return;
  }
  const float factor = ScalarExp(before - max);
  record[0] = max;
  record[1] = record[1] * factor + sum;
  ScaleRecord(record, record_floats, factor);
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_POP_ATTRIBUTES
#endif

#endif
