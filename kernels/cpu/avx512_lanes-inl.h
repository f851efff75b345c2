#pragma once

// Vectors of sixteen lanes: what products whose lanes are outputs (transposed-inl.h) ask of an
// instruction set.

#include <hwy/base.h>

#include <algorithm>
#include <cstdint>

// GCC takes the registers that its own header leaves undefined for mistakes.
HWY_DIAGNOSTICS(push)
#if HWY_COMPILER_GCC_ACTUAL
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wmaybe-uninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wuninitialized")
#endif
#include <immintrin.h>
HWY_DIAGNOSTICS(pop)

#define MEA_LANES_TARGET "avx512f,avx512bw,avx512dq,avx512vl,prfchw"

HWY_PUSH_ATTRIBUTES(MEA_LANES_TARGET)
namespace mea::cpu {
namespace {

constexpr int kLanes = 16;
using Floats = __m512;
using Words = int32_t __attribute__((vector_size(64), may_alias));  // or four bytes each

HWY_INLINE Floats InAllLanes(float value) { return _mm512_set1_ps(value); }
HWY_INLINE Floats MulAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
HWY_INLINE Words NearestIntegers(Floats x) { return (Words)_mm512_cvtps_epi32(x); }

// Sums of the products of pairs of 16 bits.
HWY_INLINE Words MulPairs(Words a, Words b) {
  return (Words)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}

// Loads the first `count` bytes of a vector, at most all, then zeros; reads no memory beyond them.
class FirstBytes {
 public:
  HWY_INLINE explicit FirstBytes(int64_t count)
      : mask_(count >= 64 ? ~uint64_t{0} : (uint64_t{1} << std::max<int64_t>(count, 0)) - 1) {
    // A mask even where it is all of a vector. Loads without one teach the processor to prefetch
    // along the rows, which takes a tenth of the memory's rate away.
    asm("" : "+r"(mask_));
  }
  HWY_INLINE Words Load(const void* p) const { return (Words)_mm512_maskz_loadu_epi8(mask_, p); }

 private:
  uint64_t mask_;
};

// Writes the first `count` elements, at most all.
HWY_INLINE void StoreFirst(Words v, int count, float* to) {
  const uint32_t mask = count >= kLanes ? 0xffff : (1u << std::max(count, 0)) - 1;
  _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(mask), (__m512i)v);
}

// Writes the low byte of every lane.
HWY_INLINE void StoreBytes(Words v, void* to) {
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)v));
}

HWY_INLINE int32_t SumOfLanes(Words v) { return _mm512_reduce_add_epi32((__m512i)v); }

// Transposes sixteen rows of sixteen elements.
HWY_INLINE void Transpose(Words (&rows)[kLanes]) {
  __m512i v[16], t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
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
    rows[c] = (Words)_mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[4 + c] = (Words)_mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[8 + c] = (Words)_mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[12 + c] = (Words)_mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

// Of each quarter (four elements) of each of four rows the sum, in place of the quarter's element
// of that row.
HWY_INLINE Words AddQuarters(Words a, Words b, Words c, Words d) {
  const Words first = (Words)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b) +
                      (Words)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b);
  const Words second = (Words)_mm512_unpacklo_epi32((__m512i)c, (__m512i)d) +
                       (Words)_mm512_unpackhi_epi32((__m512i)c, (__m512i)d);
  return (Words)_mm512_unpacklo_epi64((__m512i)first, (__m512i)second) +
         (Words)_mm512_unpackhi_epi64((__m512i)first, (__m512i)second);
}

// Transposes quarters.
HWY_INLINE void TransposeQuarters(Words (&rows)[kLanes / 4]) {
  const auto a = (__m512i)rows[0], b = (__m512i)rows[1];
  const auto c = (__m512i)rows[2], d = (__m512i)rows[3];
  const __m512i even_low = _mm512_shuffle_i32x4(a, b, 0x88);
  const __m512i even_high = _mm512_shuffle_i32x4(c, d, 0x88);
  const __m512i odd_low = _mm512_shuffle_i32x4(a, b, 0xdd);
  const __m512i odd_high = _mm512_shuffle_i32x4(c, d, 0xdd);
  rows[0] = (Words)_mm512_shuffle_i32x4(even_low, even_high, 0x88);
  rows[1] = (Words)_mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
  rows[2] = (Words)_mm512_shuffle_i32x4(even_low, even_high, 0xdd);
  rows[3] = (Words)_mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
}

// The 16 bytes at p as quarter q of v.
HWY_INLINE void SetQuarter(const void* p, int q, Words& v) {
  v = (Words)_mm512_mask_broadcast_i32x4((__m512i)v, static_cast<__mmask16>(0xf << 4 * q),
                                         _mm_loadu_si128(static_cast<const __m128i*>(p)));
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
