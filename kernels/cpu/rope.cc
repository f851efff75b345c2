#include "kernels/cpu/rope.h"

#include <array>
#include <cmath>

#include "kernels/cpu/attention.h"
#include "kernels/int4_heads.h"
#include "kernels/int8_rows.h"

namespace mea::cpu {
namespace {

constexpr int kMaxHeadDim = 1024;
using HeadVector = std::array<float, kMaxHeadDim>;

// In double: there are few elements, and a float sum would be the largest error of QK-norm.
float InverseRms(const float* x, int64_t count, float eps) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(count) + eps));
}

// out = RoPE(gain * scale * x); gain may be null.
void ScaleAndRotate(const float* x, const float* gain, float scale, const float* cos_sin,
                    int64_t head_dim, float* out) {
  const int64_t half = head_dim / 2;
  const float* cosine = cos_sin;
  const float* sine = cos_sin + half;
  for (int64_t i = 0; i < half; ++i) {
    float first = x[i];
    float second = x[i + half];
    if (gain != nullptr) {
      first *= scale * gain[i];
      second *= scale * gain[i + half];
    }
    out[i] = first * cosine[i] - second * sine[i];
    out[i + half] = second * cosine[i] + first * sine[i];
  }
}

// One head's key or value, whose element i lies at offset_of(i) of its slab.
template <typename OffsetOf>
void StoreHead(const float* x, int64_t head_dim, float* slab, int64_t, int64_t,
               OffsetOf offset_of) {
  for (int64_t i = 0; i < head_dim; ++i) slab[offset_of(i)] = x[i];
}
template <typename OffsetOf>
void StoreHead(const float* x, int64_t head_dim, Bf16* slab, int64_t, int64_t, OffsetOf offset_of) {
  for (int64_t i = 0; i < head_dim; ++i) slab[offset_of(i)] = ToBf16(x[i]);
}
template <typename OffsetOf>
void StoreHead(const float* x, int64_t head_dim, int8_t* slab, int64_t page_size, int64_t token,
               OffsetOf offset_of) {
  std::array<int8_t, kMaxHeadDim> integers;
  SlabScales(slab, page_size, head_dim)[token] = QuantizeHead(x, head_dim, integers.data());
  for (int64_t i = 0; i < head_dim; ++i) slab[offset_of(i)] = integers[i];
}

// The same in 4 bits; `pack` writes the integers.
template <typename Pack>
void StoreInt4Head(const float* x, int64_t head_dim, Int4Pair* slab, int64_t page_size,
                   int64_t token, Pack pack) {
  std::array<uint8_t, kMaxHeadDim> integers;
  const auto [scale, zero] = QuantizeInt4Head(x, head_dim, integers.data());
  Bf16* const scales = Int4SlabScales(slab, page_size, head_dim);
  scales[token] = scale;
  scales[page_size + token] = zero;
  pack(integers.data());
}

void StoreKey(const float* x, const KvSpec& spec, Int4Pair* slab, int64_t page_size,
              int64_t token) {
  StoreInt4Head(x, spec.head_dim, slab, page_size, token, [&](const uint8_t* q) {
    for (int64_t i = 0; i < spec.head_dim; i += 2) {
      slab[KeyOffset(DType::kI4, token, i, spec.head_dim)] = {
          static_cast<uint8_t>(q[i] | q[i + 1] << 4)};
    }
  });
}
template <typename T>
void StoreKey(const float* x, const KvSpec& spec, T* slab, int64_t page_size, int64_t token) {
  StoreHead(x, spec.head_dim, slab, page_size, token,
            [&](int64_t i) { return KeyOffset(spec.dtype.keys, token, i, spec.head_dim); });
}

void StoreValue(const float* x, const KvSpec& spec, Int4Pair* slab, int64_t page_size,
                int64_t token) {
  StoreInt4Head(x, spec.head_dim, slab, page_size, token, [&](const uint8_t* q) {
    PackInt4Head(q, spec.head_dim, slab + token * KvHeadElements(spec.head_dim, DType::kI4));
  });
}
template <typename T>
void StoreValue(const float* x, const KvSpec& spec, T* slab, int64_t page_size, int64_t token) {
  StoreHead(x, spec.head_dim, slab, page_size, token,
            [&](int64_t i) { return ValueOffset(spec.dtype.values, token, i, spec.head_dim); });
}

// 1 / rms of every virtual key of the token.
void StoreKeyNorms(const AppendKvArgs& args, int64_t token, int64_t page, int64_t offset) {
  const KvSpec& spec = args.kv.spec;
  const float* k = args.k.row<float>(token);
  for (int head = 0; head < spec.key_norm_heads; ++head) {
    HeadVector mixed{};
    for (int c = 0; c < spec.key_heads; ++c) {
      const float weight = args.key_mix.row<float>(c)[head];
      const float* component = k + c * args.k.stride[1];
      for (int i = 0; i < spec.head_dim; ++i) mixed[i] += weight * component[i];
    }
    const TensorView& norms = args.kv.key_norms;
    norms.row<float>(page)[head * norms.stride[1] + offset] =
        InverseRms(mixed.data(), spec.head_dim, args.eps);
  }
}

template <typename T>
void StoreKeys(const AppendKvArgs& args, int64_t token, int64_t page, int64_t offset) {
  const KvSpec& spec = args.kv.spec;
  const float* gain = args.gain.empty() ? nullptr : args.gain.as<float>();
  for (int c = 0; c < spec.key_heads; ++c) {
    const float* key = args.k.row<float>(token) + c * args.k.stride[1];
    const bool normed = gain != nullptr && spec.key_norm_heads == 0;
    const float scale = normed ? InverseRms(key, spec.head_dim, args.eps) : 1.0f;
    HeadVector rotated;
    ScaleAndRotate(key, gain, scale, args.cos_sin.row<float>(token), spec.head_dim, rotated.data());
    T* slab = args.kv.keys.row<T>(page) + c * args.kv.keys.stride[1];
    StoreKey(rotated.data(), spec, slab, args.kv.page_size, offset);
  }
}

template <typename T>
void StoreValues(const AppendKvArgs& args, int64_t token, int64_t page, int64_t offset) {
  const KvSpec& spec = args.kv.spec;
  for (int c = 0; c < spec.value_heads; ++c) {
    const float* value = args.v.row<float>(token) + c * args.v.stride[1];
    T* slab = args.kv.values.row<T>(page) + c * args.kv.values.stride[1];
    StoreValue(value, spec, slab, args.kv.page_size, offset);
  }
}

// Calls store(T()) with the type of the format's elements.
template <typename Store>
void WithElement(DType dtype, Store store) {
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

}  // namespace

void ComputeRopeRow(const ComputeRopeArgs& args, int64_t token) {
  const int64_t half = args.inv_freq.shape[0];
  const int64_t pseudo_heads = args.pseudo_heads;
  const int64_t own = args.positions.as<int32_t>()[token / pseudo_heads];
  const auto position = static_cast<double>(own * pseudo_heads + token % pseudo_heads);
  float* out = args.out.row<float>(token);
  for (int64_t i = 0; i < half; ++i) {
    // In double: at position 100,000 a float angle would be off by 0.004.
    const double inv_freq = args.inv_freq.as<double>()[i];
    const double angle = position * inv_freq;
    const double factor = inv_freq == 0 ? 1 : args.attention_factor;
    out[i] = static_cast<float>(std::cos(angle) * factor);
    out[i + half] = static_cast<float>(std::sin(angle) * args.attention_factor);
  }
}

void PrepareQueryRow(const PrepareQueriesArgs& args, int64_t token) {
  const int64_t head_dim = args.q.shape[2];
  const float* gain = args.gain.empty() ? nullptr : args.gain.as<float>();
  for (int64_t head = 0; head < args.q.shape[1]; ++head) {
    float* q = args.q.row<float>(token) + head * args.q.stride[1];
    const float scale = gain == nullptr ? 1.0f : InverseRms(q, head_dim, args.eps);
    ScaleAndRotate(q, gain, scale, args.cos_sin.row<float>(token), head_dim, q);
  }
}

void AppendKvRow(const AppendKvArgs& args, int64_t token) {
  const KvSpec& spec = args.kv.spec;
  MEA_CHECK(spec.head_dim <= kMaxHeadDim);
  const int32_t slot = args.slots.as<int32_t>()[token];
  if (slot < 0) return;
  const int64_t page = slot / args.kv.page_size;
  const int64_t offset = slot % args.kv.page_size;
  WithElement(spec.dtype.keys,
              [&](auto element) { StoreKeys<decltype(element)>(args, token, page, offset); });
  WithElement(spec.dtype.values,
              [&](auto element) { StoreValues<decltype(element)>(args, token, page, offset); });
  StoreKeyNorms(args, token, page, offset);
}

}  // namespace mea::cpu
