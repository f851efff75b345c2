#include "kernels/cuda/attention/decode_general.h"

#include <type_traits>

#include "kernels/cuda/attention/stored_head.h"
#include "kernels/cuda/attention/units.h"
#include "kernels/cuda/attention/warp.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/hadamard.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = kGeneralHeads;
constexpr int kMaxPairs = kMaxGeneralHeadDim / (2 * kWarpSize);  // of neighbouring elements, a lane

__device__ float2 LoadPair(const Bf16* elements) {
  return UnpackBf16(*reinterpret_cast<const uint32_t*>(elements));
}
__device__ float2 LoadPair(const float* elements) { return {elements[0], elements[1]}; }

struct Components {
  int begin;
  int end;
};

// Those that virtual head g is made of.
__device__ Components ComponentsOf(const float* mix, int num_heads, int g) {
  if (mix == nullptr) return {g, g + 1};
  return {0, num_heads};
}

// One query head of one row, and where in the cache its tokens lie.
template <bool kIntegers>
struct Head {
  using Query = std::conditional_t<kIntegers, float, Bf16>;

  const AttentionParams& p;
  const Query* q;        // [head_dim]; of integers in shared memory, rotated as the keys are
  const int32_t* pages;  // of the sequence
  int g;                 // virtual head

  // scale * r * sum_c W_K[c, g] (q . K_c(t)), in powers of two
  __device__ float Score(int t) const {
    const int page = pages[t / p.page_size];
    const int token = t % p.page_size;
    const Components components = ComponentsOf(p.key_mix, p.key_heads, g);
    float score = 0.0f;
    for (int c = components.begin; c < components.end; ++c) {
      const StoredHead<kIntegers> key(p, p.keys, p.dtype.keys, page, p.key_heads, c, token);
      float dot = 0.0f;
      for (int e = 0; e < p.head_dim; e += 2) {
        const float2 a = LoadPair(q + e);
        const float2 b = key.Pair(e);
        dot += a.x * b.x + a.y * b.y;
      }
      score += MixWeight(p.key_mix, p.kv_heads, c, g) * dot;
    }
    if (p.key_norms != nullptr) {
      score *= p.key_norms[(int64_t{page} * p.kv_heads + g) * p.page_size + token];
    }
    return score * (p.scale * kLog2E);
  }

  // out += weight * sum_c W_V[c, g] V_c(t); a lane holds pairs lane, lane + 32, ...
  __device__ void AddValue(int t, float weight, int lane, float2 (&out)[kMaxPairs]) const {
    const int page = pages[t / p.page_size];
    const int token = t % p.page_size;
    const Components components = ComponentsOf(p.value_mix, p.value_heads, g);
    for (int c = components.begin; c < components.end; ++c) {
      const StoredHead<kIntegers> value(p, p.values, p.dtype.values, page, p.value_heads, c, token);
      const float w = weight * MixWeight(p.value_mix, p.kv_heads, c, g);
#pragma unroll
      for (int k = 0; k < kMaxPairs; ++k) {
        const int e = 2 * (lane + k * kWarpSize);
        if (e >= p.head_dim) break;
        const float2 v = value.Pair(e);
        out[k].x += w * v.x;
        out[k].y += w * v.y;
      }
    }
  }
};

// A copy of the query in the warp's shared memory, rotated where the keys are.
__device__ const float* CopyQuery(const AttentionParams& p, const Bf16* q, int lane, int warp) {
  float* copy = reinterpret_cast<float*>(DynamicShared()) + warp * p.head_dim;
  SyncWarp();  // all lanes are done with the last query
  for (int e = lane; e < p.head_dim; e += kWarpSize) copy[e] = Widen(q[e]);
  RotateHadamard(copy, p.head_dim, lane, kWarpSize, p.dtype.keys == DType::kI4);
  return copy;
}

// One warp: 32 tokens at a time, a lane scores one of them; then the lanes share the elements.
template <bool kIntegers>
__device__ void AttendItem(const DecodeParams& params, int item_index, int head_index) {
  const AttentionParams& p = params.attention;
  const WorkItem item = params.list.items[item_index];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const typename Head<kIntegers>::Query* q;
  if constexpr (kIntegers) {
    q = CopyQuery(p, p.Query(item.row, head_index), lane,
                  static_cast<int>(threadIdx.x) / kWarpSize);
  } else {
    q = p.Query(item.row, head_index);
  }
  const Head<kIntegers> head = {p, q, p.page_table + int64_t{item.seq} * p.page_table_stride,
                                head_index / p.group()};
  float2 out[kMaxPairs] = {};
  float max = kMaskedScore;
  float sum = 0.0f;
  for (int first = item.begin; first < item.end; first += kWarpSize) {
    const bool visible = first + lane < item.end;
    const float score = visible ? head.Score(first + lane) : kMaskedScore;
    const float new_max = fmaxf(max, WarpMax(score));
    const float weight = visible ? Exp2(score - new_max) : 0.0f;
    const float decay = Exp2(max - new_max);
    max = new_max;
    sum = sum * decay + WarpSum(weight);
#pragma unroll
    for (int k = 0; k < kMaxPairs; ++k) {
      out[k].x *= decay;
      out[k].y *= decay;
    }
    const int count = item.end - first < kWarpSize ? item.end - first : kWarpSize;
    for (int j = 0; j < count; ++j) head.AddValue(first + j, Shfl(weight, j), lane, out);
  }

  const int64_t record = int64_t{item_index} * p.q_heads + head_index;
  float* partial = params.partial_out + record * p.head_dim;
#pragma unroll
  for (int k = 0; k < kMaxPairs; ++k) {
    const int e = 2 * (lane + k * kWarpSize);
    if (e >= p.head_dim) break;
    partial[e] = out[k].x;
    partial[e + 1] = out[k].y;
  }
  if (lane == 0) params.partial_stats[record] = {max, sum};
}

template <bool kIntegers>
__global__ void __launch_bounds__(kWarps* kWarpSize, kIntegers ? 3 : 4)  // unspilled
    DecodeGeneral(const __grid_constant__ DecodeParams p) {
  WaitForPrevious();
  LetNextStart();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const Units units(p.list, GeneralParts(p.attention.q_heads));
  const int head = units.part * kGeneralHeads + warp;
  if (head >= p.attention.q_heads) return;
  for (int item = units.begin; item < units.end; ++item) {
    AttendItem<kIntegers>(p, item, head);
  }
}

}  // namespace

cudaError_t LaunchDecodeGeneral(const DecodeParams& params, cudaStream_t stream) {
  const bool has_integers = params.attention.has_integers();
  const int copies = kWarps * params.attention.head_dim * static_cast<int>(sizeof(float));
  return Launch({.grid = dim3(static_cast<unsigned>(params.num_blocks)),
                 .block = dim3(kWarps * kWarpSize),
                 .shared_bytes = has_integers ? copies : 0,
                 .stream = stream,
                 .overlaps_previous = true},
                has_integers ? DecodeGeneral<true> : DecodeGeneral<false>, params);
}

}  // namespace mea::cuda
