#include "kernels/cuda/attention/combine.h"

#include "kernels/cuda/attention/warp.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/hadamard.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = 4;

// The largest score over the row's splits; the same in every lane.
__device__ float MaxScore(const SoftmaxStats* stats, int stride, int count, int lane) {
  float max = kMaskedScore;
  for (int i = lane; i < count; i += kWarpSize) {
    max = fmaxf(max, stats[int64_t{i} * stride].max);
  }
  return WarpMax(max);
}

// A warp merges one head of one row: the lanes share its elements, lane l holding pairs l, l
// + 32... kPairs of them cover head_dim.
template <int kPairs>
__global__ void __launch_bounds__(kWarps* kWarpSize, 8)  // 64 registers, unspilled
    Combine(const __grid_constant__ DecodeParams params, int row_begin, int row_end) {
  WaitForPrevious();
  LetNextStart();
  const AttentionParams& p = params.attention;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp =
      static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  const int row = row_begin + warp / p.q_heads;
  const int head = warp % p.q_heads;
  if (row >= row_end) return;
  const RowItems items = params.list.rows[row - row_begin];
  if (items.count == RowItems::kNotDecoded) return;

  const int64_t first = int64_t{items.first} * p.q_heads + head;
  const SoftmaxStats* stats = params.partial_stats + first;
  const float max = MaxScore(stats, p.q_heads, items.count, lane);
  int pair[kPairs];  // a lane without one repeats the last, which costs less than a branch
  bool valid[kPairs];
#pragma unroll
  for (int k = 0; k < kPairs; ++k) {
    pair[k] = lane + k * kWarpSize;
    valid[k] = 2 * pair[k] < p.head_dim;
    if (!valid[k]) pair[k] = p.head_dim / 2 - 1;
  }
  float2 out[kPairs] = {};
  float sum = 0.0f;
  for (int i = 0; i < items.count; i += kWarpSize) {
    float weight = 0.0f;
    float weighted_sum = 0.0f;
    if (i + lane < items.count) {
      const SoftmaxStats split = stats[int64_t{i + lane} * p.q_heads];
      weight = Exp2(split.max - max);
      weighted_sum = weight * split.sum;
    }
    sum += WarpSum(weighted_sum);
    const int count = items.count - i < kWarpSize ? items.count - i : kWarpSize;
#pragma unroll(kPairs <= 2 ? 8 : 1)
    for (int j = 0; j < count; ++j) {
      const float w = Shfl(weight, j);
      const float2* partial = reinterpret_cast<const float2*>(
          params.partial_out + (first + int64_t{i + j} * p.q_heads) * p.head_dim);
#pragma unroll
      for (int k = 0; k < kPairs; ++k) {
        const float2 x = partial[pair[k]];
        out[k].x += w * x.x;
        out[k].y += w * x.y;
      }
    }
  }

  if (p.dtype.values == DType::kI4) {
    float* rotated = reinterpret_cast<float*>(DynamicShared()) +
                     static_cast<int>(threadIdx.x) / kWarpSize * p.head_dim;
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      if (valid[k]) *reinterpret_cast<float2*>(rotated + 2 * pair[k]) = out[k];
    }
    RotateHadamard(rotated, p.head_dim, lane, kWarpSize);
#pragma unroll
    for (int k = 0; k < kPairs; ++k) out[k] = *reinterpret_cast<float2*>(rotated + 2 * pair[k]);
  }
  float scale = items.count > 0 ? Rcp(sum) : 0.0f;
  if (p.head_norm_gain != nullptr) {
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      squares += valid[k] ? out[k].x * out[k].x + out[k].y * out[k].y : 0.0f;
    }
    const float mean = WarpSum(squares) * scale * scale / static_cast<float>(p.head_dim);
    scale *= Rsqrt(mean + p.head_norm_eps);
  }
  uint32_t* result = reinterpret_cast<uint32_t*>(p.Out(row, head));
#pragma unroll
  for (int k = 0; k < kPairs; ++k) {
    if (!valid[k]) continue;
    float2 x = {out[k].x * scale, out[k].y * scale};
    if (p.head_norm_gain != nullptr) {
      const float* gain = p.head_norm_gain + int64_t{head} * p.head_dim;
      x = {x.x * gain[2 * pair[k]], x.y * gain[2 * pair[k] + 1]};
    }
    result[pair[k]] = PackBf16(x.x, x.y);
  }
}

template <int kPairs>
cudaError_t LaunchPairs(const DecodeParams& params, int row_begin, int row_end,
                        cudaStream_t stream) {
  const AttentionParams& p = params.attention;
  const int num_warps = (row_end - row_begin) * p.q_heads;
  const int rotated = kWarps * p.head_dim * static_cast<int>(sizeof(float));
  return Launch({.grid = dim3(static_cast<unsigned>((num_warps + kWarps - 1) / kWarps)),
                 .block = dim3(kWarps * kWarpSize),
                 .shared_bytes = p.dtype.values == DType::kI4 ? rotated : 0,
                 .stream = stream,
                 .overlaps_previous = true},
                Combine<kPairs>, params, row_begin, row_end);
}

}  // namespace

cudaError_t LaunchCombine(const DecodeParams& params, int row_begin, int row_end,
                          cudaStream_t stream) {
  const int head_dim = params.attention.head_dim;
  if (head_dim <= 64) return LaunchPairs<1>(params, row_begin, row_end, stream);
  if (head_dim <= 128) return LaunchPairs<2>(params, row_begin, row_end, stream);
  if (head_dim <= 256) return LaunchPairs<4>(params, row_begin, row_end, stream);
  return LaunchPairs<8>(params, row_begin, row_end, stream);
}

}  // namespace mea::cuda
