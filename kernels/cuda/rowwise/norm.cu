#include <algorithm>

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/rowwise/rowwise.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

constexpr int kMaxThreadsPerRow = 512;
constexpr int kBlockThreads = 256;  // rows that need fewer threads share a block

// Sum over the threads of one row (x of the block), the same in each and in a fixed order.
__device__ float RowSum(float value) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += ShflXor(value, mask);
  const int num_warps = blockDim.x / kWarpSize;
  if (num_warps == 1) return value;
  float* sums = reinterpret_cast<float*>(DynamicShared()) + threadIdx.y * num_warps;
  if (threadIdx.x % kWarpSize == 0) sums[threadIdx.x / kWarpSize] = value;
  SyncThreads();
  float total = 0;
  for (int warp = 0; warp < num_warps; ++warp) total += sums[warp];
  return total;
}

// A row stays in the registers of its threads between the sum and the product: kVectors * 8
// elements in each. Bytes: 4 (residual) + 2 (out) per element, with the addition 2 (delta) + 4
// more.
template <int kVectors, bool kAdd, bool kAligned>
__global__ void __launch_bounds__(kMaxThreadsPerRow)
    NormKernel(const __grid_constant__ AddRmsNormParams p) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool in_range = row < p.num_tokens;
  float* residual = p.residual + row * p.residual_stride;
  const auto column = [](int v) {
    return static_cast<int>(v * blockDim.x + threadIdx.x) * kVectorElements;
  };
  Vector8 gain[kVectors] = {};  // a weight: no need to wait for it
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = column(v);
    if (i < p.hidden) gain[v] = Load8<kAligned>(p.gain + i, p.hidden - i);
  }
  WaitForPrevious();
  LetNextStart();

  Vector8 x[kVectors] = {};
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = column(v);
    if (!in_range || i >= p.hidden) continue;
    x[v] = Load8<kAligned>(residual + i, p.hidden - i);
    if constexpr (kAdd) {
      const Vector8 delta = Load8<kAligned>(p.delta + row * p.delta_stride + i, p.hidden - i);
      for (int e = 0; e < kVectorElements; ++e) x[v].at[e] += delta.at[e];
      Store8<kAligned>(residual + i, p.hidden - i, x[v]);
    }
    for (int e = 0; e < kVectorElements; ++e) sum += x[v].at[e] * x[v].at[e];
  }
  const float inverse_rms = Rsqrt(RowSum(sum) / static_cast<float>(p.hidden) + p.eps);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = column(v);
    if (!in_range || i >= p.hidden) continue;
    for (int e = 0; e < kVectorElements; ++e) x[v].at[e] *= inverse_rms * gain[v].at[e];
    Store8<kAligned>(p.out + row * p.out_stride + i, p.hidden - i, x[v]);
  }
}

template <int kVectors, bool kAdd>
cudaError_t LaunchNorm(const AddRmsNormParams& p, cudaStream_t stream, bool aligned) {
  const int vectors = (p.hidden + kVectorElements - 1) / kVectorElements;
  const int threads = ((vectors + kVectors - 1) / kVectors + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int rows = std::max(1, std::min(kBlockThreads / threads, p.num_tokens));
  const LaunchConfig config{
      .grid = dim3((p.num_tokens + rows - 1) / rows),
      .block = dim3(threads, rows),
      .shared_bytes = static_cast<int>(sizeof(float)) * rows * (threads / kWarpSize),
      .stream = stream,
      .overlaps_previous = true};
  return aligned ? Launch(config, NormKernel<kVectors, kAdd, true>, p)
                 : Launch(config, NormKernel<kVectors, kAdd, false>, p);
}

template <bool kAdd>
cudaError_t ChooseNorm(const AddRmsNormParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  if (p.hidden > kMaxNormHidden) return cudaErrorInvalidValue;
  const bool aligned = p.hidden % kVectorElements == 0 &&
                       StartAligned(p.residual, p.residual_stride) &&
                       StartAligned(p.delta, p.delta_stride) && StartAligned(p.gain, 0) &&
                       StartAligned(p.out, p.out_stride);
  constexpr int kStep = kMaxThreadsPerRow * kVectorElements;
  if (p.hidden <= kStep) return LaunchNorm<1, kAdd>(p, stream, aligned);
  if (p.hidden <= 2 * kStep) return LaunchNorm<2, kAdd>(p, stream, aligned);
  return LaunchNorm<4, kAdd>(p, stream, aligned);
}

}  // namespace

cudaError_t LaunchRmsNorm(const RmsNormParams& p, cudaStream_t stream) {
  return ChooseNorm<false>({.residual = const_cast<float*>(p.x),  // only read: nothing is added
                            .residual_stride = p.x_stride,
                            .gain = p.gain,
                            .eps = p.eps,
                            .out = p.out,
                            .out_stride = p.out_stride,
                            .num_tokens = p.num_tokens,
                            .hidden = p.hidden},
                           stream);
}

cudaError_t LaunchAddRmsNorm(const AddRmsNormParams& p, cudaStream_t stream) {
  return ChooseNorm<true>(p, stream);
}

}  // namespace mea::cuda
