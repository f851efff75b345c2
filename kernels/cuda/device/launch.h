#pragma once

// Starting a kernel from the host, and how a kernel overlaps with its neighbours in the stream.

#include <type_traits>

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;            // whole warps
  int shared_bytes = 0;  // dynamic shared memory of one block
  cudaStream_t stream = nullptr;
  // The kernel may start while the previous one in the stream still runs (programmatic dependent
  // launch): it calls WaitForPrevious before it touches memory that the previous one reads or
  // writes. No effect before sm_90.
  bool overlaps_previous = false;
};

// Whether the device, the same for the whole process, supports programmatic dependent launch.
inline bool CanOverlap() {
  static const bool can = [] {
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) ==
               cudaSuccess &&
           major >= 9;
  }();
  return can;
}

// kernel<<<config>>>(params...); the first error of the launch itself.
template <class... P>
cudaError_t Launch(const LaunchConfig& config, void (*kernel)(P...),
                   std::type_identity_t<P>... params) {
  constexpr int kSharedBytesWithoutAsking = 48 << 10;
  if (config.shared_bytes > kSharedBytesWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, config.shared_bytes);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = config.grid;
  launch.blockDim = config.block;
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = config.stream;
  launch.attrs = &overlap;
  launch.numAttrs = config.overlaps_previous && CanOverlap() ? 1 : 0;
  return cudaLaunchKernelEx(&launch, kernel, params...);
}

// Returns when the kernels before this one in the stream have ended and their writes are seen.
// Every kernel launched with overlaps_previous calls it, in every thread that reads or writes
// memory.
__device__ __forceinline__ void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel of the stream start once every block has called this or ended.
__device__ __forceinline__ void LetNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace mea::cuda
