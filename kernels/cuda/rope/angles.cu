#include <cmath>

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/rope/rope.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 128;

// One thread per row and frequency.
__global__ void __launch_bounds__(kThreads) AnglesKernel(const __grid_constant__ RopeParams p) {
  const int half = p.head_dim / 2;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = index / half;
  const int i = static_cast<int>(index % half);
  WaitForPrevious();
  LetNextStart();
  if (row >= int64_t{p.num_tokens} * p.pseudo_heads) return;
  const int64_t token = p.positions[row / p.pseudo_heads];
  const auto position = static_cast<double>(token * p.pseudo_heads + row % p.pseudo_heads);
  double sine, cosine;
  const double inv_freq = p.inv_freq[i];
  sincos(position * inv_freq, &sine, &cosine);
  float* out = p.cos_sin + row * p.head_dim;
  out[i] = static_cast<float>(inv_freq == 0 ? 1 : cosine * p.attention_factor);
  out[i + half] = static_cast<float>(sine * p.attention_factor);
}

}  // namespace

cudaError_t LaunchComputeRope(const RopeParams& p, cudaStream_t stream) {
  const int64_t count = static_cast<int64_t>(p.num_tokens) * p.pseudo_heads * (p.head_dim / 2);
  if (count == 0) return cudaSuccess;
  return Launch({.grid = dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)),
                 .block = dim3(kThreads),
                 .stream = stream,
                 .overlaps_previous = true},
                AnglesKernel, p);
}

}  // namespace mea::cuda
