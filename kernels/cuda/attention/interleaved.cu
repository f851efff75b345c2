#include "kernels/cuda/attention/interleaved.h"

#include "kernels/cuda/attention/decode_general.h"
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

// One pseudo query of one row, and where in the cache its tokens lie.
template <bool kIntegers>
struct PseudoQuery {
  const AttentionParams& p;
  // [P, head_dim] the query rotated back by r positions, and as keys in 4 bits are
  const float* rotated;
  const int32_t* pages;  // of the sequence
  int pseudo_heads;
  int j;         // head
  int place;     // the query's pseudo head
  int position;  // of the row's token

  __device__ bool Sees(int t, int r) const {
    const int last = position - (place < r ? 1 : 0);
    return t <= last && (p.window == 0 || last - t < p.window);
  }

  // scale * sum_m a_K[m, j, r] <rotated_r, K_m(t)>, in powers of two
  __device__ float Score(int t, int r) const {
    const int page = pages[t / p.page_size];
    const int token = t % p.page_size;
    const float* q = rotated + r * p.head_dim;
    float score = 0.0f;
#pragma unroll 1
    for (int m = 0; m < p.key_heads; ++m) {
      const StoredHead<kIntegers> key(p, p.keys, p.dtype.keys, page, p.key_heads, m, token);
      float dot = 0.0f;
      for (int e = 0; e < p.head_dim; e += 2) {
        const float2 k = key.Pair(e);
        dot += q[e] * k.x + q[e + 1] * k.y;
      }
      score += p.key_mix[m * p.kv_heads + j * pseudo_heads + r] * dot;
    }
    return score * (p.scale * kLog2E);
  }

  // out += weight * sum_m a_V[m, j, r] V_m(t); a lane holds pairs lane, lane + 32, ...
  __device__ void AddValue(int t, int r, float weight, int lane, float2 (&out)[kMaxPairs]) const {
    const int page = pages[t / p.page_size];
    const int token = t % p.page_size;
#pragma unroll 1
    for (int m = 0; m < p.value_heads; ++m) {
      const StoredHead<kIntegers> value(p, p.values, p.dtype.values, page, p.value_heads, m, token);
      const float w = weight * p.value_mix[m * p.kv_heads + j * pseudo_heads + r];
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

// rotated[r] = q rotated back by r positions.
__device__ void RotateBack(const Bf16* q, const PseudoHeads& pseudo, int head_dim, int lane,
                           float* rotated) {
  const int half = head_dim / 2;
  for (int i = lane; i < pseudo.pseudo_heads * half; i += kWarpSize) {
    const int r = i / half;
    const int e = i % half;
    const float cosine = pseudo.rotations[r * head_dim + e];
    const float sine = pseudo.rotations[r * head_dim + half + e];
    const float first = Widen(q[e]);
    const float second = Widen(q[e + half]);
    rotated[r * head_dim + e] = first * cosine + second * sine;
    rotated[r * head_dim + half + e] = second * cosine - first * sine;
  }
}

// One warp: 32 tokens at a time, a lane scores one of them for one pseudo key after the other; then
// the lanes share the elements.
template <bool kIntegers>
__device__ void AttendItem(const InterleavedParams& params, int item_index, int head_index,
                           float* rotated) {
  const AttentionParams& p = params.decode.attention;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const WorkItem item = params.decode.list.items[item_index];
  const int pseudo_heads = params.pseudo.pseudo_heads;
  const int heads = p.q_heads / pseudo_heads;
  SyncWarp();  // all lanes are done with the last query
  RotateBack(p.Query(item.row, head_index), params.pseudo, p.head_dim, lane, rotated);
  SyncWarp();
  if (kIntegers && p.dtype.keys == DType::kI4) {
    for (int r = 0; r < pseudo_heads; ++r) {
      RotateHadamard(rotated + r * p.head_dim, p.head_dim, lane, kWarpSize);
    }
  }
  const PseudoQuery<kIntegers> query = {
      .p = p,
      .rotated = rotated,
      .pages = p.page_table + int64_t{item.seq} * p.page_table_stride,
      .pseudo_heads = pseudo_heads,
      .j = head_index % heads,
      .place = head_index / heads,
      .position = p.kv_lens[item.seq] - (p.q_offsets[item.seq + 1] - item.row)};
  float2 out[kMaxPairs] = {};
  float max = kMaskedScore;
  float sum = 0.0f;
  for (int first = item.begin; first < item.end; first += kWarpSize) {
    const int count = item.end - first < kWarpSize ? item.end - first : kWarpSize;
#pragma unroll 1
    for (int r = 0; r < pseudo_heads; ++r) {
      const bool visible = lane < count && query.Sees(first + lane, r);
      const float score = visible ? query.Score(first + lane, r) : kMaskedScore;
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
#pragma unroll 1  // unrolled, registers spill on sm_80
      for (int i = 0; i < count; ++i) query.AddValue(first + i, r, Shfl(weight, i), lane, out);
    }
  }

  const int64_t record = int64_t{item_index} * p.q_heads + head_index;
  float* partial = params.decode.partial_out + record * p.head_dim;
#pragma unroll
  for (int k = 0; k < kMaxPairs; ++k) {
    const int e = 2 * (lane + k * kWarpSize);
    if (e >= p.head_dim) break;
    partial[e] = out[k].x;
    partial[e + 1] = out[k].y;
  }
  if (lane == 0) params.decode.partial_stats[record] = {max, sum};
}

template <bool kIntegers>
__global__ void __launch_bounds__(kWarps* kWarpSize, 4)  // 128 registers a thread, unspilled
    Interleaved(const __grid_constant__ InterleavedParams p) {
  WaitForPrevious();
  LetNextStart();
  const AttentionParams& attention = p.decode.attention;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  float* rotated =
      reinterpret_cast<float*>(DynamicShared()) + warp * p.pseudo.pseudo_heads * attention.head_dim;
  const Units units(p.decode.list, GeneralParts(attention.q_heads));
  const int head = units.part * kGeneralHeads + warp;
  if (head >= attention.q_heads) return;
  for (int item = units.begin; item < units.end; ++item) {
    AttendItem<kIntegers>(p, item, head, rotated);
  }
}

}  // namespace

cudaError_t LaunchInterleaved(const InterleavedParams& params, cudaStream_t stream) {
  const int floats = kWarps * params.pseudo.pseudo_heads * params.decode.attention.head_dim;
  return Launch({.grid = dim3(static_cast<unsigned>(params.decode.num_blocks)),
                 .block = dim3(kWarps * kWarpSize),
                 .shared_bytes = floats * static_cast<int>(sizeof(float)),
                 .stream = stream,
                 .overlaps_previous = true},
                params.decode.attention.has_integers() ? Interleaved<true> : Interleaved<false>,
                params);
}

}  // namespace mea::cuda
