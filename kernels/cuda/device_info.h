#pragma once

#include "absl/status/statusor.h"
#include "kernels/cuda_module.h"

namespace mea::cuda {

// The device, if this build has code for it; otherwise a status as from OpenCudaBackend.
absl::StatusOr<CudaDeviceInfo> DescribeDevice(int device);

}  // namespace mea::cuda
