#pragma once

#include "kernels/cuda/attention/expand.h"

namespace mea::cuda {

// LaunchExpand of a cache of integers.
cudaError_t LaunchExpandIntegers(const ExpandParams& params, cudaStream_t stream);

}  // namespace mea::cuda
