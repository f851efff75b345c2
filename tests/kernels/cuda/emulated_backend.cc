#include "tests/kernels/cuda/emulated_backend.h"

#include "kernels/cuda/cuda_backend.h"

namespace mea {

absl::StatusOr<std::unique_ptr<Backend>> CreateEmulatedCudaBackend(const CudaOptions& options) {
  return cuda::CreateCudaBackend(options);
}

}  // namespace mea
