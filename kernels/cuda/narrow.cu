#include "kernels/cuda/narrow.h"

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 256;

// Bytes: 6 per element.
__global__ void __launch_bounds__(kThreads) NarrowKernel(const __grid_constant__ NarrowParams p) {
  WaitForPrevious();
  LetNextStart();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < p.count) p.to[i] = Narrow(p.from[i]);
}

}  // namespace

cudaError_t LaunchNarrow(const NarrowParams& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;
  return Launch({.grid = dim3((p.count + kThreads - 1) / kThreads),
                 .block = dim3(kThreads),
                 .stream = stream,
                 .overlaps_previous = true},
                NarrowKernel, p);
}

}  // namespace mea::cuda
