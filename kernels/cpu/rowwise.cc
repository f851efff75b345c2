#include "kernels/cpu/rowwise.h"

#include <algorithm>
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

// Calls whole(i) for every whole vector of a row, then tail(i, rest) for what is left.
template <typename Whole, typename Tail>
HWY_INLINE void ForRow(int64_t count, Whole whole, Tail tail) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) whole(i);
  if (i < count) tail(i, count - i);
}

// out[i] = f(in[i]...); out may be one of them.
template <typename F, typename... In>
HWY_INLINE void ForEach(int64_t count, float* out, F f, const In*... in) {
  ForRow(
      count, [&](int64_t i) HWY_ATTR { hn::StoreU(f(LoadWide(in + i)...), F32(), out + i); },
      [&](int64_t i, int64_t rest)
          HWY_ATTR { StoreTail(f(LoadTail(in + i, rest)...), out + i, rest); });
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

HWY_INLINE float InverseRms(const float* x, int64_t count, float eps) {
  return 1.0f / std::sqrt(SumOfSquares(x, count) / static_cast<float>(count) + eps);
}

HWY_INLINE void Norm(const float* x, const float* gain, float eps, int64_t count, float* out) {
  const Vec inverse_rms = hn::Set(F32(), InverseRms(x, count, eps));
  ForEach(
      count, out, [&](Vec v, Vec g) HWY_ATTR { return hn::Mul(g, hn::Mul(v, inverse_rms)); }, x,
      gain);
}

void RmsNorm(const RmsNormArgs& args, int64_t row) {
  const float* const x = args.x.row<float>(row);
  float* const out = args.out.row<float>(row);
  const int64_t count = args.x.shape[1];
  if (args.gain.empty()) {
    std::copy_n(x, count, out);
  } else {
    Norm(x, args.gain.as<float>(), args.eps, count, out);
  }
}

void AddRmsNorm(const AddRmsNormArgs& args, int64_t row) {
  const float* const delta = args.delta.row<float>(row);
  float* const sum = args.residual.row<float>(row);
  const int64_t count = args.delta.shape[1];
  if (args.delta_gain.empty()) {
    const Vec scale = hn::Set(F32(), args.delta_scale);
    ForEach(
        count, sum, [&](Vec x, Vec d) HWY_ATTR { return hn::MulAdd(scale, d, x); }, sum, delta);
  } else {
    const Vec scale = hn::Set(F32(), args.delta_scale * InverseRms(delta, count, args.eps));
    ForEach(
        count, sum,
        [&](Vec x, Vec d, Vec g) HWY_ATTR { return hn::MulAdd(g, hn::Mul(d, scale), x); }, sum,
        delta, args.delta_gain.as<float>());
  }
  RmsNorm({.x = args.residual, .gain = args.gain, .eps = args.eps, .out = args.out}, row);
}

void NormRows(const NormRowsArgs& args, int64_t row) {
  Norm(args.x.row<float>(row), args.gain.as<float>(), args.eps, args.x.shape[1],
       args.out.row<float>(row));
}

// x * sigmoid(gate)
HWY_INLINE Vec TimesSigmoid(Vec x, Vec gate) {
  const F32 d;
  // Beyond 88 the float exp overflows, and the sigmoid is 0 to float precision anyway. Not hn::Min,
  // which may lose a NaN.
  const Vec most = hn::Set(d, 88.0f);
  const Vec negated = hn::Neg(gate);
  const Vec exponent = hn::IfThenElse(hn::Gt(negated, most), most, negated);
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), Exp(exponent)));
}

// x * sigmoid(2 u) = 0.5 x (1 + tanh(u))
HWY_INLINE Vec GeluTanh(Vec x) {
  const F32 d;
  const Vec linear = hn::Set(d, 1.5957691216f);  // 2 sqrt(2 / pi)
  const Vec cubic = hn::Set(d, 0.0713548163f);   // 0.044715 of it
  return TimesSigmoid(x, hn::Mul(x, hn::MulAdd(cubic, hn::Mul(x, x), linear)));
}

// out = f(gate, up)
template <typename Args, typename F>
HWY_INLINE void Gate(const Args& args, int64_t row, F f) {
  ForEach(args.gate.shape[1], args.out.template row<float>(row), f,
          args.gate.template row<float>(row), args.up.template row<float>(row));
}

void GatedActivation(const GatedActivationArgs& args, int64_t row) {
  switch (args.activation) {
    case Activation::kSilu:
      return Gate(args, row,
                  [](Vec gate, Vec up) HWY_ATTR { return hn::Mul(TimesSigmoid(gate, gate), up); });
    case Activation::kGeluTanh:
      return Gate(args, row, [](Vec gate, Vec up) HWY_ATTR { return hn::Mul(GeluTanh(gate), up); });
  }
}

void SigmoidGate(const SigmoidGateArgs& args, int64_t row) {
  const Vec scale = hn::Set(F32(), args.scale);
  Gate(args, row,
       [&](Vec gate, Vec up) HWY_ATTR { return hn::Mul(TimesSigmoid(scale, gate), up); });
}

// The heads of one token; strides in floats, from one head, or row of the mix, to the next.
struct MixHeadsRow {
  const float* x;  // [in_heads, head_dim]
  int64_t x_stride;
  const float* mix;  // [in_heads, out_heads]
  int64_t mix_stride;
  float* out;  // [out_heads, head_dim]
  int64_t out_stride;
  int64_t in_heads;
  int64_t out_heads;
  int64_t head_dim;
};

// Heads [first, first + kHeads) of the result: what is loaded of x serves them all.
template <int kHeads>
HWY_INLINE void MixSomeHeads(const MixHeadsRow& row, int64_t first) {
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

void MixHeads(const MixHeadsArgs& args, int64_t token) {
  const auto& [x, mix, out] = args;
  const MixHeadsRow row = {.x = x.row<float>(token),
                           .x_stride = x.stride[1],
                           .mix = mix.as<float>(),
                           .mix_stride = mix.stride[0],
                           .out = out.row<float>(token),
                           .out_stride = out.stride[1],
                           .in_heads = x.shape[1],
                           .out_heads = out.shape[1],
                           .head_dim = x.shape[2]};
  constexpr int kTogether = 4;
  int64_t first = 0;
  for (; first + kTogether <= row.out_heads; first += kTogether) {
    MixSomeHeads<kTogether>(row, first);
  }
  for (; first < row.out_heads; ++first) MixSomeHeads<1>(row, first);
}

cpu::RowKernels ChooseRowKernels() {
  return {.rms_norm = RmsNorm,
          .add_rms_norm = AddRmsNorm,
          .norm_rows = NormRows,
          .gated_activation = GatedActivation,
          .sigmoid_gate = SigmoidGate,
          .mix_heads = MixHeads};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChooseRowKernels);

namespace cpu {
RowKernels GetRowKernels() { return HWY_DYNAMIC_DISPATCH(ChooseRowKernels)(); }
}  // namespace cpu
}  // namespace mea
#endif
