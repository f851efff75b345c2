#include "kernels/cpu/prepare_append.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/prepare_append.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which compiles this file once per target.
#include <hwy/highway.h>

#include "kernels/cpu/store_heads-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

// In double: there are few elements, and a float sum would be the largest error of QK-norm.
HWY_INLINE float InverseRmsOfHead(const float* x, int64_t count, float eps) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  constexpr int64_t kDoubles = hn::MaxLanes(d);
  auto squares = hn::Zero(d);
  int64_t i = 0;
  for (; i + kDoubles <= count; i += kDoubles) {
    const auto v = hn::PromoteTo(d, hn::LoadU(df, x + i));
    squares = hn::MulAdd(v, v, squares);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, squares));
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(count) + eps));
}

// out = RoPE(gain * scale * x); gain may be null; out may be x.
HWY_INLINE void ScaleAndRotate(const float* x, const float* gain, float scale, const float* cos_sin,
                               int64_t head_dim, float* out) {
  const int64_t half = head_dim / 2;
  const Vec scale_everywhere = hn::Set(F32(), scale);
  const auto rotate = [&](int64_t i, auto load, auto store) HWY_ATTR {
    Vec first = load(x + i);
    Vec second = load(x + half + i);
    if (gain != nullptr) {
      first = hn::Mul(first, hn::Mul(scale_everywhere, load(gain + i)));
      second = hn::Mul(second, hn::Mul(scale_everywhere, load(gain + half + i)));
    }
    const Vec cosine = load(cos_sin + i);
    const Vec sine = load(cos_sin + half + i);
    store(hn::MulSub(first, cosine, hn::Mul(second, sine)), out + i);
    store(hn::MulAdd(second, cosine, hn::Mul(first, sine)), out + half + i);
  };
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    rotate(
        i, [](const float* p) HWY_ATTR { return LoadWide(p); },
        [](Vec v, float* p) HWY_ATTR { hn::StoreU(v, F32(), p); });
  }
  if (i == half) return;
  const int64_t rest = half - i;
  rotate(
      i, [rest](const float* p) HWY_ATTR { return LoadTail(p, rest); },
      [rest](Vec v, float* p) HWY_ATTR { StoreTail(v, p, rest); });
}

void PrepareQueries(const PrepareQueriesArgs& args, int64_t begin, int64_t end) {
  const int64_t head_dim = args.q.shape[2];
  const float* const gain = args.gain.empty() ? nullptr : args.gain.as<float>();
  for (int64_t token = begin; token < end; ++token) {
    for (int64_t head = 0; head < args.q.shape[1]; ++head) {
      float* const q = args.q.row<float>(token) + head * args.q.stride[1];
      const float scale = gain == nullptr ? 1.0f : InverseRmsOfHead(q, head_dim, args.eps);
      ScaleAndRotate(q, gain, scale, args.cos_sin.row<float>(token), head_dim, q);
    }
  }
}

// 1 / rms of every virtual key of the token.
HWY_INLINE void StoreKeyNorms(const AppendKvArgs& args, int64_t token, int64_t page,
                              int64_t offset) {
  const KvSpec& spec = args.kv.spec;
  const TensorView& norms = args.kv.key_norms;
  const float* const k = args.k.row<float>(token);
  for (int head = 0; head < spec.key_norm_heads; ++head) {
    std::array<float, kMaxHeadDim> mixed;
    std::fill_n(mixed.begin(), spec.head_dim, 0.0f);
    for (int c = 0; c < spec.key_heads; ++c) {
      const float weight = args.key_mix.row<float>(c)[head];
      const float* const component = k + c * args.k.stride[1];
      for (int i = 0; i < spec.head_dim; ++i) mixed[i] += weight * component[i];
    }
    norms.row<float>(page)[head * norms.stride[1] + offset] =
        InverseRmsOfHead(mixed.data(), spec.head_dim, args.eps);
  }
}

template <typename T>
void AppendKeys(const AppendKvArgs& args, const SlotRun& run) {
  const KvSpec& spec = args.kv.spec;
  const float* const gain = args.gain.empty() ? nullptr : args.gain.as<float>();
  const bool normed = gain != nullptr && spec.key_norm_heads == 0;
  for (int c = 0; c < spec.key_heads; ++c) {
    T* const slab = args.kv.keys.row<T>(run.page) + c * args.kv.keys.stride[1];
    const auto rotated = [&](int64_t i, float* to) HWY_ATTR {
      const int64_t token = run.first_token + i;
      const float* const key = args.k.row<float>(token) + c * args.k.stride[1];
      const float scale = normed ? InverseRmsOfHead(key, spec.head_dim, args.eps) : 1.0f;
      ScaleAndRotate(key, gain, scale, args.cos_sin.row<float>(token), spec.head_dim, to);
    };
    StoreKeys(rotated, run, spec, args.kv.page_size, slab);
  }
}

template <typename T>
void AppendValues(const AppendKvArgs& args, const SlotRun& run) {
  const KvSpec& spec = args.kv.spec;
  for (int c = 0; c < spec.value_heads; ++c) {
    T* const slab = args.kv.values.row<T>(run.page) + c * args.kv.values.stride[1];
    const float* const first = args.v.row<float>(run.first_token) + c * args.v.stride[1];
    StoreValues(first, args.v.stride[0], run, spec, args.kv.page_size, slab);
  }
}

// Calls store(T()) with the type of the format's elements.
template <typename Store>
HWY_INLINE void WithElement(DType dtype, Store store) {
  switch (dtype) {
    case DType::kF32:
      return store(float{});
    case DType::kBf16:
      return store(Bf16{});
    case DType::kI8:
      return store(int8_t{});
    case DType::kI4:
      return store(Int4Pair{});
    default:
      MEA_CHECK(false);
  }
}

void AppendKv(const AppendKvArgs& args, int64_t begin, int64_t end) {
  const KvSpec& spec = args.kv.spec;
  MEA_CHECK(spec.head_dim <= kMaxHeadDim);
  const int32_t* const slots = args.slots.as<int32_t>();
  for (int64_t token = begin; token < end;) {
    const SlotRun run = SlotRun::Of(slots + token, end - token, token, args.kv.page_size);
    token += run.count;
    if (run.page < 0) continue;
    WithElement(spec.dtype.keys,
                [&](auto element) HWY_ATTR { AppendKeys<decltype(element)>(args, run); });
    WithElement(spec.dtype.values,
                [&](auto element) HWY_ATTR { AppendValues<decltype(element)>(args, run); });
    for (int64_t i = 0; i < run.count; ++i) {
      StoreKeyNorms(args, run.first_token + i, run.page, run.offset + i);
    }
  }
}

cpu::PrepareAppendKernels ChoosePrepareAppendKernels() {
  return {.prepare_queries = PrepareQueries, .append_kv = AppendKv};
}

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mea {
HWY_EXPORT(ChoosePrepareAppendKernels);

namespace cpu {
PrepareAppendKernels GetPrepareAppendKernels() {
  return HWY_DYNAMIC_DISPATCH(ChoosePrepareAppendKernels)();
}
}  // namespace cpu
}  // namespace mea
#endif
