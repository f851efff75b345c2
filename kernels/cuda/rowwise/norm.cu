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

// Where the row of this thread's block and y lies; a row behind the last has no elements.
struct RowPlace {
  int64_t row;
  int count;
};
__device__ __forceinline__ RowPlace ThisRow(int num_tokens, int hidden) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  return {row, row < num_tokens ? hidden : 0};
}

// Element 0 of this thread's v-th eight.
__device__ __forceinline__ int Column(int v) {
  return static_cast<int>(v * blockDim.x + threadIdx.x) * kVectorElements;
}

// A row stays in the registers of its threads: kVectors * 8 elements in each, 0 behind its end.
template <bool kAligned, int kVectors, class T>
__device__ __forceinline__ void LoadRow(Vector8 (&x)[kVectors], const T* row, int count) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = Column(v);
    if (i < count) x[v] = Load8<kAligned>(row + i, count - i);
  }
}

template <bool kAligned, int kVectors>
__device__ __forceinline__ void StoreRow(Bf16* row, int count, const Vector8 (&x)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = Column(v);
    if (i < count) Store8<kAligned>(row + i, count - i, x[v]);
  }
}

// The same in all threads of a row; every thread of the block takes part.
template <int kVectors>
__device__ __forceinline__ float InverseRms(const Vector8 (&x)[kVectors], int hidden, float eps) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    for (int e = 0; e < kVectorElements; ++e) sum += x[v].at[e] * x[v].at[e];
  }
  return Rsqrt(RowSum(sum) / static_cast<float>(hidden) + eps);
}

template <int kVectors>
__device__ __forceinline__ void Scale(Vector8 (&x)[kVectors], float factor,
                                      const Vector8 (&gain)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    for (int e = 0; e < kVectorElements; ++e) x[v].at[e] *= factor * gain[v].at[e];
  }
}

// Bytes: 4 (x in F32, 2 in BF16) + 2 (out) per element.
template <int kVectors, bool kAligned, class T>
__global__ void __launch_bounds__(kMaxThreadsPerRow)
    NormKernel(const __grid_constant__ NormParams<T> p) {
  const auto [row, count] = ThisRow(p.num_tokens, p.hidden);
  Vector8 gain[kVectors] = {};  // a weight: no need to wait for it
  if (p.gain != nullptr) LoadRow<kAligned>(gain, p.gain, count);
  WaitForPrevious();
  LetNextStart();
  Vector8 x[kVectors] = {};
  LoadRow<kAligned>(x, p.x + row * p.x_stride, count);
  if (p.gain != nullptr) Scale(x, InverseRms(x, p.hidden, p.eps), gain);
  StoreRow<kAligned>(p.out + row * p.out_stride, count, x);
}

// Bytes: 2 (delta) + 8 (residual) + 2 (out) per element.
template <int kVectors, bool kAligned>
__global__ void __launch_bounds__(kMaxThreadsPerRow)
    AddNormKernel(const __grid_constant__ AddRmsNormParams p) {
  const auto [row, count] = ThisRow(p.num_tokens, p.hidden);
  Vector8 gain[kVectors] = {};
  if (p.gain != nullptr) LoadRow<kAligned>(gain, p.gain, count);
  WaitForPrevious();
  LetNextStart();
  Vector8 x[kVectors] = {};
  LoadRow<kAligned>(x, p.delta + row * p.delta_stride, count);
  float scale = p.delta_scale;
  if (p.delta_gain != nullptr) {
    scale *= InverseRms(x, p.hidden, p.eps);
    SyncThreads();  // the next sum over the row takes the same shared memory
  }
  float* residual = p.residual + row * p.residual_stride;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = Column(v);
    if (i >= count) continue;
    const Vector8 before = Load8<kAligned>(residual + i, count - i);
    if (p.delta_gain != nullptr) {
      const Vector8 delta_gain = Load8<kAligned>(p.delta_gain + i, count - i);
      for (int e = 0; e < kVectorElements; ++e) x[v].at[e] *= delta_gain.at[e];
    }
    for (int e = 0; e < kVectorElements; ++e) {
      x[v].at[e] = before.at[e] + scale * x[v].at[e];
    }
    Store8<kAligned>(residual + i, count - i, x[v]);
  }
  if (p.gain != nullptr) Scale(x, InverseRms(x, p.hidden, p.eps), gain);
  StoreRow<kAligned>(p.out + row * p.out_stride, count, x);
}

template <int kVectors, bool kAligned, class T>
auto KernelOf(const NormParams<T>&) {
  return NormKernel<kVectors, kAligned, T>;
}
template <int kVectors, bool kAligned>
auto KernelOf(const AddRmsNormParams&) {
  return AddNormKernel<kVectors, kAligned>;
}

template <class T>
bool IsAligned(const NormParams<T>& p) {
  return StartAligned(p.x, p.x_stride);
}
bool IsAligned(const AddRmsNormParams& p) {
  return StartAligned(p.residual, p.residual_stride) && StartAligned(p.delta, p.delta_stride) &&
         StartAligned(p.delta_gain, 0);
}

template <int kVectors, class Params>
cudaError_t LaunchNorm(const Params& p, cudaStream_t stream) {
  const int vectors = (p.hidden + kVectorElements - 1) / kVectorElements;
  const int threads = ((vectors + kVectors - 1) / kVectors + kWarpSize - 1) / kWarpSize * kWarpSize;
  const int rows = std::max(1, std::min(kBlockThreads / threads, p.num_tokens));
  const LaunchConfig config{
      .grid = dim3((p.num_tokens + rows - 1) / rows),
      .block = dim3(threads, rows),
      .shared_bytes = static_cast<int>(sizeof(float)) * rows * (threads / kWarpSize),
      .stream = stream,
      .overlaps_previous = true};
  const bool aligned = p.hidden % kVectorElements == 0 && IsAligned(p) && StartAligned(p.gain, 0) &&
                       StartAligned(p.out, p.out_stride);
  return Launch(config, aligned ? KernelOf<kVectors, true>(p) : KernelOf<kVectors, false>(p), p);
}

template <class Params>
cudaError_t ChooseNorm(const Params& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  if (p.hidden > kMaxNormHidden) return cudaErrorInvalidValue;
  constexpr int kStep = kMaxThreadsPerRow * kVectorElements;
  if (p.hidden <= kStep) return LaunchNorm<1>(p, stream);
  if (p.hidden <= 2 * kStep) return LaunchNorm<2>(p, stream);
  return LaunchNorm<4>(p, stream);
}

}  // namespace

cudaError_t LaunchRmsNorm(const NormParams<float>& p, cudaStream_t stream) {
  return ChooseNorm(p, stream);
}

cudaError_t LaunchNormRows(const NormParams<Bf16>& p, cudaStream_t stream) {
  return ChooseNorm(p, stream);
}

cudaError_t LaunchAddRmsNorm(const AddRmsNormParams& p, cudaStream_t stream) {
  return ChooseNorm(p, stream);
}

}  // namespace mea::cuda
