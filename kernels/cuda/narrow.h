#pragma once

#include <cuda_runtime_api.h>

#include "kernels/dtype.h"

namespace mea::cuda {

struct NarrowParams {
  const float* from = nullptr;  // [count]
  Bf16* to = nullptr;           // [count]
  int count = 0;
};
// Rounds F32 to BF16.
cudaError_t LaunchNarrow(const NarrowParams& params, cudaStream_t stream);

}  // namespace mea::cuda
