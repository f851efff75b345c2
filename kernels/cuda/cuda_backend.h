#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda_module.h"

namespace mea::cuda {

// The back end itself, for the module and for tests; statuses as of OpenCudaBackend.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options);

}  // namespace mea::cuda
