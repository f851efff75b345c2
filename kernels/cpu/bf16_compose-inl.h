// Heads composed by dot products of BF16 pairs: pairs of components, interleaved element by
// element, meet pairs of their weights. The sums are floats; a composed head is rounded to BF16 and
// then multiplied as a head in place is.
#if defined(MEA_KERNELS_CPU_BF16_COMPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_BF16_COMPOSE_INL_H_
#undef MEA_KERNELS_CPU_BF16_COMPOSE_INL_H_
#else
#define MEA_KERNELS_CPU_BF16_COMPOSE_INL_H_
#endif

#include "kernels/cpu/bf16_tile-inl.h"
#include "kernels/cpu/compose_tile-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
namespace mea {
namespace HWY_NAMESPACE {

// Pairs of components that are mixed in registers together.
constexpr int kPairsTogether = 8;

// One vector of each component: 16 columns of a pair of rows.
struct ComponentVectors {
  const DotBf16* first;
  int64_t stride;
  int count;
  __mmask32 used;
};

// Composes that vector of each head from kPairs pairs of components, added to `partial` if kAdds:
// calls sink(head, columns' first half, second half), whose floats are not rounded yet.
template <int kPairs, bool kAdds, typename Sink>
HWY_INLINE void ComposePairs(const ComponentVectors& components, const float* weights,
                             int64_t weight_stride, int num_heads, const __m512* partial,
                             Sink sink) {
  alignas(64) static constexpr uint16_t kFirstHalf[32] = {
      0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first_half = _mm512_load_si512(kFirstHalf);
  const __m512i second_half = _mm512_add_epi16(first_half, _mm512_set1_epi16(16));
  __m512bh first[kPairs], second[kPairs];
  const DotBf16* at = components.first;
#pragma GCC unroll 8
  for (int n = 0; n < kPairs; ++n, at += 2 * components.stride) {
    // The last one may have no partner.
    // The last component may have no partner.
    const bool paired = n + 1 < kPairs || 2 * kPairs <= components.count;
    const __m512i even = LoadPairs(components.used, at);
    const __m512i odd = LoadPairs(paired ? components.used : 0, at + components.stride);
    first[n] = (__m512bh)_mm512_permutex2var_epi16(even, first_half, odd);
    second[n] = (__m512bh)_mm512_permutex2var_epi16(even, second_half, odd);
  }
  for (int h = 0; h < num_heads; ++h, weights += weight_stride) {
    __m512 low = kAdds ? partial[2 * h] : _mm512_setzero_ps();
    __m512 high = kAdds ? partial[2 * h + 1] : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int n = 0; n < kPairs; ++n) {
      const __m512bh weight = Everywhere(weights + n);
      low = _mm512_dpbf16_ps(low, weight, first[n]);
      high = _mm512_dpbf16_ps(high, weight, second[n]);
    }
    sink(h, low, high);
  }
}

// The same for all components: kPairs pairs, or, if that is 0, more than kPairsTogether. Calls
// sink(head, composed pairs).
template <int kPairs, typename Sink>
HWY_INLINE void ComposeAll(ComponentVectors components, MixWeights mix, int num_heads, Sink sink) {
  const auto round = [&](int h, __m512 low, __m512 high)
                         HWY_ATTR { sink(h, _mm512_cvtne2ps_pbh(high, low)); };
  if constexpr (kPairs > 0) {
    ComposePairs<kPairs, false>(components, mix.data, mix.stride, num_heads, nullptr, round);
  } else {
    __m512 partial[2 * cpu::kMaxTogether];
    const auto keep = [&](int h, __m512 low, __m512 high) HWY_ATTR {
      partial[2 * h] = low;
      partial[2 * h + 1] = high;
    };
    const float* weights = mix.data;
    const auto go_on = [&]() HWY_ATTR {
      weights += kPairsTogether;
      components.first += 2 * kPairsTogether * components.stride;
      components.count -= 2 * kPairsTogether;
    };
    ComposePairs<kPairsTogether, false>(components, weights, mix.stride, num_heads, nullptr, keep);
    for (go_on(); components.count > 2 * kPairsTogether; go_on()) {
      ComposePairs<kPairsTogether, true>(components, weights, mix.stride, num_heads, partial, keep);
    }
    WithCount<kPairsTogether>((components.count + 1) / 2, [&](auto pairs) HWY_ATTR {
      ComposePairs<decltype(pairs)::value, true>(components, weights, mix.stride, num_heads,
                                                 partial, round);
    });
  }
}

// Calls call(pairs) with kPairs of ComposeAll as a constant.
template <typename Call>
HWY_INLINE void WithPairs(int components, Call call) {
  if (components > 2 * kPairsTogether) return call(std::integral_constant<int, 0>());
  WithCount<kPairsTogether>((components + 1) / 2, call);
}

template <int kPairs>
void MultiplyComposedPairs(bool accumulate, int num_heads, const float* const* a, int k,
                           const Components<const DotBf16*>& b, MixWeights mix, float* const* c) {
  __m512 sums[cpu::kMaxTogether];
  for (int h = 0; h < num_heads; ++h) {
    sums[h] = accumulate ? _mm512_loadu_ps(c[h]) : _mm512_setzero_ps();
  }
  const DotBf16* row = b.first;
  for (int i = 0; i < (k + 1) / 2; ++i, row += b.stride) {
    const DotBf16* next = row + b.ahead;
    for (int n = 0; n < b.count; ++n, next += b.component_stride) hwy::Prefetch(next);
    const ComponentVectors components = {.first = row,
                                         .stride = b.component_stride,
                                         .count = b.count,
                                         .used = 2 * i + 1 < k ? kWholePairs : kFirstsOfPairs};
    ComposeAll<kPairs>(components, mix, num_heads, [&](int h, __m512bh composed) HWY_ATTR {
      sums[h] = _mm512_dpbf16_ps(sums[h], Everywhere(a[h] + i), composed);
    });
  }
  for (int h = 0; h < num_heads; ++h) _mm512_storeu_ps(c[h], sums[h]);
}

// As of floats, by the same dot products as composing first and multiplying then.
inline void MultiplyComposed(bool accumulate, int num_heads, const float* const* a, int k,
                             const Components<const DotBf16*>& b, MixWeights mix, float* const* c) {
  WithPairs(b.count, [&](auto pairs) HWY_ATTR {
    MultiplyComposedPairs<decltype(pairs)::value>(accumulate, num_heads, a, k, b, mix, c);
  });
}

// Composes whole tiles into scratch memory, laid out as a slab is.
inline void ComposeTile(const Components<const DotBf16*>& b, int num_heads, int rows, int columns,
                        MixWeights mix, DotBf16* target, int64_t target_stride) {
  WithPairs(b.count, [&](auto pairs) HWY_ATTR {
    for (int row = 0; row < rows; row += 2) {
      const DotBf16* from = b.first + row / 2 * b.stride;
      DotBf16* to = target + int64_t{row} * columns;
      for (int column = 0; column < columns; column += kTileColumns) {
        const ComponentVectors components = {.first = from + 2 * column,
                                             .stride = b.component_stride,
                                             .count = b.count,
                                             .used = kWholePairs};
        ComposeAll<decltype(pairs)::value>(
            components, mix, num_heads, [&](int h, __m512bh composed) HWY_ATTR {
              _mm512_storeu_si512(to + 2 * column + h * target_stride, (__m512i)composed);
            });
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_POP_ATTRIBUTES
#endif

#endif
