// Vector helpers shared by the per-target files; compiled once per instruction set, so the guard
// toggles (Highway's convention for -inl.h files).
#if defined(MEA_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_SIMD_INL_H_
#undef MEA_KERNELS_CPU_SIMD_INL_H_
#else
#define MEA_KERNELS_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that a vector never spans more than one 16-token tile of keys.
using F32 = hn::CappedTag<float, 16>;
using Vec = hn::Vec<F32>;
constexpr int kLanes = hn::MaxLanes(F32());

// kLanes elements of any storage format as floats.
HWY_INLINE Vec LoadWide(const float* p) { return hn::LoadU(F32(), p); }
HWY_INLINE Vec LoadWide(const Bf16* p) {
  const hn::Rebind<uint16_t, F32> d16;
  const hn::Rebind<uint32_t, F32> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
HWY_INLINE Vec LoadWide(const F16* p) {
  const hn::Rebind<uint16_t, F32> d16;
  const hn::Rebind<hwy::float16_t, F32> dh;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::PromoteTo(F32(), hn::BitCast(dh, bits));
}

HWY_INLINE Vec LoadWide(const int8_t* p) {
  const hn::Rebind<int8_t, F32> d8;
  const hn::Rebind<int32_t, F32> d32;
  return hn::ConvertTo(F32(), hn::PromoteTo(d32, hn::LoadU(d8, p)));
}

// One half of kLanes pairs (first, second), widened. Two operations on a full register load, where
// widening neighbours would also need shuffles.
template <bool kSecond>
HWY_INLINE Vec LoadHalf(const Bf16* pairs) {
  const hn::Rebind<uint32_t, F32> d32;
#if HWY_TARGET == HWY_SCALAR
  uint32_t word;
  std::memcpy(&word, pairs, sizeof(word));
  const auto bits = hn::Set(d32, word);
#else
  const hn::Repartition<uint16_t, F32> d16;
  const auto bits = hn::BitCast(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(pairs)));
#endif
  if constexpr (kSecond) return hn::BitCast(F32(), hn::And(bits, hn::Set(d32, 0xffff0000u)));
  return hn::BitCast(F32(), hn::ShiftLeft<16>(bits));
}

// The first `count` < kLanes elements, then zeros; reads no memory beyond them.
template <typename T>
HWY_INLINE Vec LoadTail(const T* p, int64_t count) {
  if constexpr (kLanes == 1) return hn::Zero(F32());
  T padded[kLanes] = {};
  std::memcpy(padded, p, count * sizeof(T));
  return LoadWide(padded);
}
HWY_INLINE void StoreTail(Vec v, float* p, int64_t count) {
  float padded[kLanes];
  hn::StoreU(v, F32(), padded);
  std::memcpy(p, padded, count * sizeof(float));
}

HWY_INLINE float Sum(Vec v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float Max(Vec v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

// e^x with relative error below 2e-7 for x in [-87, 88]; exactly 1 at 0 and exactly 0 below -87.
// exp(x) = 2^n * exp(r) with |r| <= ln(2)/2 and exp(r) = 1 + r + r^2 * P(r), where P is the
// Chebyshev interpolant of (exp(r) - 1 - r) / r^2.
HWY_INLINE Vec Exp(Vec x) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const auto n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
  const Vec nf = hn::ConvertTo(d, n);
  // ln(2) in two parts, the first of which times n is exact.
  Vec r = hn::NegMulAdd(nf, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(nf, hn::Set(d, -2.12194440e-4f), r);
  Vec p = hn::Set(d, 1.39336521e-3f);
  p = hn::MulAdd(p, r, hn::Set(d, 8.36318173e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.16664667e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.66665763e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  const Vec e = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const Vec power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Mul(e, power));
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
