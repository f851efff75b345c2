#include "kernels/cpu/rowwise.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rowwise.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// Calls body(offset, load, store) over a row: whole vectors, then the rest padded with zeros.
template <typename Whole, typename Tail>
HWY_INLINE void ForRow(int64_t count, Whole whole, Tail tail) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) whole(i);
  if (i < count) tail(i, count - i);
}

HWY_INLINE float SumOfSquares(const float* x, int64_t count) {
  Vec sum = hn::Zero(F32());
  ForRow(
      count,
      [&](int64_t i) HWY_ATTR {
        const Vec v = LoadWide(x + i);
        sum = hn::MulAdd(v, v, sum);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const Vec v = LoadTail(x + i, rest);
        sum = hn::MulAdd(v, v, sum);
      });
  return Sum(sum);
}

void RmsNorm(const float* x, const float* gain, float eps, int64_t count, float* out) {
  const float mean_square = SumOfSquares(x, count) / static_cast<float>(count);
  const Vec inverse_rms = hn::Set(F32(), 1.0f / std::sqrt(mean_square + eps));
  ForRow(
      count,
      [&](int64_t i) HWY_ATTR {
        const Vec v = hn::Mul(LoadWide(x + i), inverse_rms);
        hn::StoreU(hn::Mul(LoadWide(gain + i), v), F32(), out + i);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const Vec v = hn::Mul(LoadTail(x + i, rest), inverse_rms);
        StoreTail(hn::Mul(LoadTail(gain + i, rest), v), out + i, rest);
      });
}

void AddRmsNorm(const float* delta, float* residual, const float* gain, float eps, int64_t count,
                float* out) {
  ForRow(
      count,
      [&](int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(LoadWide(residual + i), LoadWide(delta + i)), F32(), residual + i);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        StoreTail(hn::Add(LoadTail(residual + i, rest), LoadTail(delta + i, rest)), residual + i,
                  rest);
      });
  RmsNorm(residual, gain, eps, count, out);
}

HWY_INLINE Vec SiluTimes(Vec gate, Vec up) {
  const F32 d;
  // Beyond 88 the float exp overflows, and silu is 0 to float precision anyway.
  const Vec negated = hn::Min(hn::Neg(gate), hn::Set(d, 88.0f));
  return hn::Mul(hn::Div(gate, hn::Add(hn::Set(d, 1.0f), Exp(negated))), up);
}

void SwiGlu(const float* gate, const float* up, int64_t count, float* out) {
  ForRow(
      count,
      [&](int64_t i)
          HWY_ATTR { hn::StoreU(SiluTimes(LoadWide(gate + i), LoadWide(up + i)), F32(), out + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        StoreTail(SiluTimes(LoadTail(gate + i, rest), LoadTail(up + i, rest)), out + i, rest);
      });
}

cpu::RmsNormKernel ChooseRmsNorm() { return RmsNorm; }
cpu::AddRmsNormKernel ChooseAddRmsNorm() { return AddRmsNorm; }
cpu::SwiGluKernel ChooseSwiGlu() { return SwiGlu; }

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseRmsNorm);
HWY_EXPORT(ChooseAddRmsNorm);
HWY_EXPORT(ChooseSwiGlu);

namespace cpu {
RmsNormKernel GetRmsNormKernel() { return HWY_DYNAMIC_DISPATCH(ChooseRmsNorm)(); }
AddRmsNormKernel GetAddRmsNormKernel() { return HWY_DYNAMIC_DISPATCH(ChooseAddRmsNorm)(); }
SwiGluKernel GetSwiGluKernel() { return HWY_DYNAMIC_DISPATCH(ChooseSwiGlu)(); }
}  // namespace cpu
}  // namespace mea
#endif
