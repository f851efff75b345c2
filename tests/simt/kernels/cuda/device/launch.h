#pragma once

// Stands for kernels/cuda/device/launch.h when kernels are compiled for the CPU: a launch is queued
// on its stream and run when the host synchronises.

#include <tuple>
#include <type_traits>

#include "kernels/cuda/device/simt.h"
#include "tests/simt/machine.h"

namespace mea::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  int shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool overlaps_previous = false;
};

template <class... P>
cudaError_t Launch(const LaunchConfig& config, void (*kernel)(P...),
                   std::type_identity_t<P>... params) {
  static_assert((std::is_trivially_copyable_v<P> && ...));
  const simt::KernelLaunch launch = {config.grid, config.block, config.shared_bytes, config.stream,
                                     config.overlaps_previous};
  return simt::LaunchKernel(launch, [kernel, values = std::tuple<std::remove_cv_t<P>...>(
                                                 params...)] { std::apply(kernel, values); });
}

inline void WaitForPrevious(simt::Where where = simt::Where::current()) {
  if (simt::IsOmitted("WaitForPrevious", where)) return;
  simt::Block::Current().WaitForPrevious(where);
}
inline void LetNextStart() { simt::Block::Current().LetNextStart(); }

}  // namespace mea::cuda
