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

// x * sigmoid(gate)
HWY_INLINE Vec TimesSigmoid(Vec x, Vec gate) {
  const F32 d;
  // Beyond 88 the float exp overflows, and the sigmoid is 0 to float precision anyway.
  const Vec negated = hn::Min(hn::Neg(gate), hn::Set(d, 88.0f));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), Exp(negated)));
}

HWY_INLINE Vec SiluTimes(Vec gate, Vec up) { return hn::Mul(TimesSigmoid(gate, gate), up); }

void SwiGlu(const float* gate, const float* up, int64_t count, float* out) {
  ForRow(
      count,
      [&](int64_t i)
          HWY_ATTR { hn::StoreU(SiluTimes(LoadWide(gate + i), LoadWide(up + i)), F32(), out + i); },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        StoreTail(SiluTimes(LoadTail(gate + i, rest), LoadTail(up + i, rest)), out + i, rest);
      });
}

void SigmoidGate(const float* gate, const float* up, float scale, int64_t count, float* out) {
  const Vec factor = hn::Set(F32(), scale);
  ForRow(
      count,
      [&](int64_t i) HWY_ATTR {
        const Vec gated = hn::Mul(TimesSigmoid(factor, LoadWide(gate + i)), LoadWide(up + i));
        hn::StoreU(gated, F32(), out + i);
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        const Vec gated =
            hn::Mul(TimesSigmoid(factor, LoadTail(gate + i, rest)), LoadTail(up + i, rest));
        StoreTail(gated, out + i, rest);
      });
}

// Heads [first, first + kHeads) of the result: what is loaded of x serves them all.
template <int kHeads>
HWY_INLINE void MixSomeHeads(const cpu::MixHeadsRow& row, int64_t first) {
  const auto mix = [&](auto load, auto store) HWY_ATTR {
    Vec sums[kHeads];
    for (int g = 0; g < kHeads; ++g) sums[g] = hn::Zero(F32());
    for (int64_t c = 0; c < row.in_heads; ++c) {
      const Vec x = load(row.x + c * row.x_stride);
      const float* weights = row.mix + c * row.mix_stride + first;
      for (int g = 0; g < kHeads; ++g) {
        sums[g] = hn::MulAdd(hn::Set(F32(), weights[g]), x, sums[g]);
      }
    }
    for (int g = 0; g < kHeads; ++g) store(sums[g], row.out + (first + g) * row.out_stride);
  };
  ForRow(
      row.head_dim,
      [&](int64_t i) HWY_ATTR {
        mix([i](const float* head) HWY_ATTR { return LoadWide(head + i); },
            [i](Vec v, float* head) HWY_ATTR { hn::StoreU(v, F32(), head + i); });
      },
      [&](int64_t i, int64_t rest) HWY_ATTR {
        mix([i, rest](const float* head) HWY_ATTR { return LoadTail(head + i, rest); },
            [i, rest](Vec v, float* head) HWY_ATTR { StoreTail(v, head + i, rest); });
      });
}

void MixHeads(const cpu::MixHeadsRow& row) {
  constexpr int kTogether = 4;
  int64_t first = 0;
  for (; first + kTogether <= row.out_heads; first += kTogether) {
    MixSomeHeads<kTogether>(row, first);
  }
  for (; first < row.out_heads; ++first) MixSomeHeads<1>(row, first);
}

cpu::RmsNormKernel ChooseRmsNorm() { return RmsNorm; }
cpu::AddRmsNormKernel ChooseAddRmsNorm() { return AddRmsNorm; }
cpu::SwiGluKernel ChooseSwiGlu() { return SwiGlu; }
cpu::SigmoidGateKernel ChooseSigmoidGate() { return SigmoidGate; }
cpu::MixHeadsKernel ChooseMixHeads() { return MixHeads; }

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseRmsNorm);
HWY_EXPORT(ChooseAddRmsNorm);
HWY_EXPORT(ChooseSwiGlu);
HWY_EXPORT(ChooseSigmoidGate);
HWY_EXPORT(ChooseMixHeads);

namespace cpu {
RmsNormKernel GetRmsNormKernel() { return HWY_DYNAMIC_DISPATCH(ChooseRmsNorm)(); }
AddRmsNormKernel GetAddRmsNormKernel() { return HWY_DYNAMIC_DISPATCH(ChooseAddRmsNorm)(); }
SwiGluKernel GetSwiGluKernel() { return HWY_DYNAMIC_DISPATCH(ChooseSwiGlu)(); }
SigmoidGateKernel GetSigmoidGateKernel() { return HWY_DYNAMIC_DISPATCH(ChooseSigmoidGate)(); }
MixHeadsKernel GetMixHeadsKernel() { return HWY_DYNAMIC_DISPATCH(ChooseMixHeads)(); }
}  // namespace cpu
}  // namespace mea
#endif
