#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/rope/integer_head.h"
#include "kernels/cuda/rope/rope.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 128;

// A small group of lanes has one item: one head of one token. Lane j of it holds elements
// [8j, 8j + 8) of the head's first half and their partners in the second, so that a pair that
// rotates together lies in one thread.
struct HeadPart {
  Vector8 first;
  Vector8 second;
};

// Lanes of an item: a power of two.
int GroupLanes(int head_dim) {
  int lanes = 1;
  while (lanes * 2 * kVectorElements < head_dim) lanes *= 2;
  return lanes;
}

// The items of a token in the order of their heads.
enum class Role { kQuery, kKey, kValue, kKeyNorm, kNone };

// This lane's place in a head.
struct Place {
  int head_dim;
  int begin;  // of its elements in the first half

  __device__ int count() const { return head_dim / 2 - begin; }  // of its elements; may be <= 0
  __device__ int second() const { return begin + head_dim / 2; }
};

template <bool kAligned, class T>
__device__ __forceinline__ HeadPart LoadPart(const T* head, Place at) {
  if (at.count() <= 0) return {};
  return {Load8<kAligned>(head + at.begin, at.count()),
          Load8<kAligned>(head + at.second(), at.count())};
}

template <bool kAligned, class T>
__device__ __forceinline__ void StorePart(T* first, T* second, Place at, const HeadPart& x) {
  if (at.count() <= 0) return;
  Store8<kAligned>(first, at.count(), x.first);
  Store8<kAligned>(second, at.count(), x.second);
}

// sum_c W[c, head] y_c, before gain and rotation.
template <bool kAligned>
__device__ HeadPart ComposeKey(const AppendParams& p, int64_t token, int head, Place at) {
  HeadPart sum = {};
  for (int c = 0; c < p.key_heads; ++c) {
    const float weight = p.key_mix[c * p.key_norm_heads + head];
    const HeadPart y = LoadPart<kAligned>(p.k + token * p.k_stride + c * p.head_dim, at);
    for (int e = 0; e < kVectorElements; ++e) {
      sum.first.at[e] += weight * y.first.at[e];
      sum.second.at[e] += weight * y.second.at[e];
    }
  }
  return sum;
}

__device__ __forceinline__ float SumOfSquares(const HeadPart& x) {
  float sum = 0;
  for (int e = 0; e < kVectorElements; ++e) {
    sum += x.first.at[e] * x.first.at[e] + x.second.at[e] * x.second.at[e];
  }
  return sum;
}

// x <- RoPE(scale * gain * x); gain may be null.
template <bool kAligned>
__device__ void ScaleAndRotate(const float* gain, float scale, const float* cos_sin, Place at,
                               HeadPart& x) {
  if (gain != nullptr) {
    const HeadPart g = LoadPart<kAligned>(gain, at);
    for (int e = 0; e < kVectorElements; ++e) {
      x.first.at[e] *= scale * g.first.at[e];
      x.second.at[e] *= scale * g.second.at[e];
    }
  }
  const HeadPart rotation = LoadPart<kAligned>(cos_sin, at);  // cos, sin
  for (int e = 0; e < kVectorElements; ++e) {
    const float first = x.first.at[e];
    const float second = x.second.at[e];
    x.first.at[e] = first * rotation.first.at[e] - second * rotation.second.at[e];
    x.second.at[e] = second * rotation.first.at[e] + first * rotation.second.at[e];
  }
}

// One token per blockIdx.x. Bytes per token: 4 d per query head, 4 d per key and value head; the
// key norms read keys again, from the cache.
template <bool kAligned, bool kIntegers>
__global__ void __launch_bounds__(kThreads)
    PrepareAndAppendKernel(const __grid_constant__ QueryParams q,
                           const __grid_constant__ AppendParams kv, int lanes) {
  const int64_t token = blockIdx.x;
  const Place at = {.head_dim = q.head_dim,
                    .begin = static_cast<int>(threadIdx.x % lanes) * kVectorElements};
  int head = static_cast<int>(blockIdx.y * (kThreads / lanes) + threadIdx.x / lanes);
  const auto has = [&head](int num_heads) {
    const bool found = head < num_heads;
    if (!found) head -= num_heads;
    return found;
  };
  const Role role = has(q.q_heads)           ? Role::kQuery
                    : has(kv.key_heads)      ? Role::kKey
                    : has(kv.value_heads)    ? Role::kValue
                    : has(kv.key_norm_heads) ? Role::kKeyNorm
                                             : Role::kNone;
  WaitForPrevious();
  LetNextStart();

  const auto own_head = [&](auto* heads, int64_t stride) {
    return heads + token * stride + head * at.head_dim;
  };
  HeadPart x = {};
  if (role == Role::kQuery) {
    x = LoadPart<kAligned>(own_head(q.q, q.q_stride), at);
  } else if (role == Role::kKey) {
    x = LoadPart<kAligned>(own_head(kv.k, kv.k_stride), at);
  } else if (role == Role::kValue) {
    x = LoadPart<kAligned>(own_head(kv.v, kv.v_stride), at);
  } else if (role == Role::kKeyNorm) {
    x = ComposeKey<kAligned>(kv, token, head, at);
  }
  float sum = SumOfSquares(x);
  for (int mask = lanes / 2; mask > 0; mask /= 2) sum += ShflXor(sum, mask);
  const float eps = role == Role::kQuery ? q.eps : kv.eps;
  const float inverse_rms = Rsqrt(sum / static_cast<float>(at.head_dim) + eps);

  if (role == Role::kQuery) {
    ScaleAndRotate<kAligned>(q.gain, inverse_rms, q.cos_sin + token * q.cos_sin_stride, at, x);
    Bf16* query = own_head(q.q, q.q_stride);
    StorePart<kAligned>(query + at.begin, query + at.second(), at, x);
  }
  const bool is_stored = role != Role::kQuery && role != Role::kNone;
  if (!kIntegers && !is_stored) return;
  const int slot = is_stored ? kv.slots[token] : -1;
  if (!kIntegers && slot < 0) return;
  const int page = slot / kv.page_size;
  const int offset = slot % kv.page_size;
  if (role == Role::kKeyNorm && slot >= 0) {
    const int64_t norms = static_cast<int64_t>(page) * kv.key_norm_heads + head;
    if (at.begin == 0) kv.key_norms[norms * kv.page_size + offset] = inverse_rms;
  }
  const bool has_slab = role == Role::kKey || role == Role::kValue;
  if (!kIntegers && !has_slab) return;
  if (role == Role::kKey) {
    const float scale = kv.key_norm_heads == 0 ? inverse_rms : 1.0f;
    ScaleAndRotate<kAligned>(kv.gain, scale, kv.cos_sin + token * kv.cos_sin_stride, at, x);
  }
  const DType dtype = role == Role::kKey ? kv.dtype.keys : kv.dtype.values;
  const int num_heads = role == Role::kKey ? kv.key_heads : kv.value_heads;
  void* slabs = role == Role::kKey ? kv.keys : kv.values;
  if constexpr (kIntegers) {
    // The warp's groups stay together, whatever their roles.
    float* shared = reinterpret_cast<float*>(DynamicShared()) + threadIdx.x / lanes * at.head_dim;
    StorePart<kAligned>(shared + at.begin, shared + at.second(), at, x);
    const bool is_integer = has_slab && slot >= 0 && dtype != DType::kBf16;
    const IntegerSlab layout = {.page_size = kv.page_size, .head_dim = at.head_dim, .dtype = dtype};
    std::byte* slab = !is_integer
                          ? nullptr
                          : static_cast<std::byte*>(slabs) + layout.Begin(page, num_heads, head);
    StoreIntegers(shared, static_cast<int>(threadIdx.x % lanes), lanes,
                  kv.dtype.keys == DType::kI4 || kv.dtype.values == DType::kI4, layout, slab,
                  offset);
    if (is_integer || !has_slab || slot < 0) return;
  }
  const SlabLayout layout = {.page_size = kv.page_size, .head_dim = at.head_dim};
  Bf16* slab = static_cast<Bf16*>(slabs) + layout.SlabBegin(page, num_heads, head);
  StorePart<kAligned>(slab + layout.Offset(offset, at.begin),
                      slab + layout.Offset(offset, at.second()), at, x);
}

bool Aligned(const QueryParams& q) {
  return StartAligned(q.q, q.q_stride) && StartAligned(q.gain, 0) &&
         StartAligned(q.cos_sin, q.cos_sin_stride);
}

bool Aligned(const AppendParams& kv) {
  return StartAligned(kv.k, kv.k_stride) && StartAligned(kv.v, kv.v_stride) &&
         StartAligned(kv.gain, 0) && StartAligned(kv.cos_sin, kv.cos_sin_stride) &&
         StartAligned(static_cast<Bf16*>(kv.keys), 0) &&
         StartAligned(static_cast<Bf16*>(kv.values), 0);
}

template <bool kAligned>
auto KernelOf(bool has_integers) {
  return has_integers ? PrepareAndAppendKernel<kAligned, true>
                      : PrepareAndAppendKernel<kAligned, false>;
}

}  // namespace

cudaError_t LaunchPrepareAndAppend(const QueryParams& queries, const AppendParams& appended,
                                   cudaStream_t stream) {
  const int head_dim = queries.head_dim;
  QueryParams q = queries;
  AppendParams kv = appended;
  if (q.cos_sin_stride == 0) q.cos_sin_stride = head_dim;
  if (kv.cos_sin_stride == 0) kv.cos_sin_stride = head_dim;
  if (head_dim % 2 != 0 || head_dim > kMaxRopeHeadDim) return cudaErrorInvalidValue;
  if (kv.head_dim != head_dim || kv.num_tokens != q.num_tokens) return cudaErrorInvalidValue;
  const int num_items = q.q_heads + kv.key_heads + kv.value_heads + kv.key_norm_heads;
  if (q.num_tokens == 0 || num_items == 0) return cudaSuccess;
  const int lanes = GroupLanes(head_dim);
  const int items_per_block = kThreads / lanes;
  const bool has_integers = kv.dtype != DType::kBf16;
  const LaunchConfig config{
      .grid = dim3(q.num_tokens, (num_items + items_per_block - 1) / items_per_block),
      .block = dim3(kThreads),
      .shared_bytes =
          has_integers ? items_per_block * head_dim * static_cast<int>(sizeof(float)) : 0,
      .stream = stream,
      .overlaps_previous = true};
  const bool aligned = head_dim % (2 * kVectorElements) == 0 && Aligned(q) && Aligned(kv);
  return Launch(config, aligned ? KernelOf<true>(has_integers) : KernelOf<false>(has_integers), q,
                kv, lanes);
}

cudaError_t LaunchPrepareQueries(const QueryParams& q, cudaStream_t stream) {
  return LaunchPrepareAndAppend(q, {.num_tokens = q.num_tokens, .head_dim = q.head_dim}, stream);
}

cudaError_t LaunchAppendKv(const AppendParams& kv, cudaStream_t stream) {
  return LaunchPrepareAndAppend({.num_tokens = kv.num_tokens, .head_dim = kv.head_dim}, kv, stream);
}

}  // namespace mea::cuda
