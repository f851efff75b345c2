#pragma once

// Vectors of eight lanes: what products whose lanes are outputs (transposed-inl.h) ask of an
// instruction set.

#include <hwy/base.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#define MEA_LANES_TARGET "avx2,fma"

HWY_PUSH_ATTRIBUTES(MEA_LANES_TARGET)
namespace mea::cpu {
namespace {

constexpr int kLanes = 8;
using Floats = __m256;
using Words = int32_t __attribute__((vector_size(32), may_alias));  // or four bytes each

HWY_INLINE Floats InAllLanes(float value) { return _mm256_set1_ps(value); }
HWY_INLINE Floats MulAdd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
HWY_INLINE Words NearestIntegers(Floats x) { return (Words)_mm256_cvtps_epi32(x); }

// Sums of the products of pairs of 16 bits.
HWY_INLINE Words MulPairs(Words a, Words b) {
  return (Words)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}

// Loads the first `count` bytes of a vector, at most all, then zeros; reads no memory beyond them.
class FirstBytes {
 public:
  HWY_INLINE explicit FirstBytes(int64_t count) : count_(std::max<int64_t>(count, 0)) {}
  HWY_INLINE Words Load(const void* p) const {
    if (count_ >= 32) return (Words)_mm256_loadu_si256(static_cast<const __m256i*>(p));
    alignas(32) char padded[32] = {};
    std::memcpy(padded, p, count_);
    return (Words)_mm256_load_si256(reinterpret_cast<const __m256i*>(padded));
  }

 private:
  int64_t count_;
};

// Writes the first `count` elements, at most all.
HWY_INLINE void StoreFirst(Words v, int count, float* to) {
  const Words lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  _mm256_maskstore_ps(to, (__m256i)(lanes < count), (__m256)v);
}

// Writes the low byte of every lane.
HWY_INLINE void StoreBytes(Words v, void* to) {
  const __m256i low = _mm256_set1_epi32(0x0c080400);
  const __m256i quads = _mm256_shuffle_epi8((__m256i)v, low);
  _mm_storel_epi64(
      static_cast<__m128i*>(to),
      _mm_unpacklo_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256(quads, 1)));
}

HWY_INLINE int32_t SumOfLanes(Words v) {
  __m128i sum =
      _mm_add_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// Transposes eight rows of eight elements.
HWY_INLINE void Transpose(Words (&rows)[kLanes]) {
  __m256i v[8], t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32((__m256i)rows[i], (__m256i)rows[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32((__m256i)rows[i], (__m256i)rows[i + 1]);
  }
  // Lane l of v[4 g + c] holds element 4 l + c of rows 4 g to 4 g + 3.
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    rows[c] = (Words)_mm256_permute2x128_si256(v[c], v[4 + c], 0x20);
    rows[4 + c] = (Words)_mm256_permute2x128_si256(v[c], v[4 + c], 0x31);
  }
}

// Of each quarter (four elements) of each of four rows the sum, in place of the quarter's element
// of that row.
HWY_INLINE Words AddQuarters(Words a, Words b, Words c, Words d) {
  const Words first = (Words)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b) +
                      (Words)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b);
  const Words second = (Words)_mm256_unpacklo_epi32((__m256i)c, (__m256i)d) +
                       (Words)_mm256_unpackhi_epi32((__m256i)c, (__m256i)d);
  return (Words)_mm256_unpacklo_epi64((__m256i)first, (__m256i)second) +
         (Words)_mm256_unpackhi_epi64((__m256i)first, (__m256i)second);
}

// Transposes quarters.
HWY_INLINE void TransposeQuarters(Words (&rows)[kLanes / 4]) {
  const auto a = (__m256i)rows[0], b = (__m256i)rows[1];
  rows[0] = (Words)_mm256_permute2x128_si256(a, b, 0x20);
  rows[1] = (Words)_mm256_permute2x128_si256(a, b, 0x31);
}

// The 16 bytes at p as quarter q of v.
HWY_INLINE void SetQuarter(const void* p, int q, Words& v) {
  const __m128i quarter = _mm_loadu_si128(static_cast<const __m128i*>(p));
  v = (Words)(q == 0 ? _mm256_inserti128_si256((__m256i)v, quarter, 0)
                     : _mm256_inserti128_si256((__m256i)v, quarter, 1));
}

}  // namespace
}  // namespace mea::cpu
HWY_POP_ATTRIBUTES
