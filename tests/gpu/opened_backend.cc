// On a real device the back end under test is the module that the program opens.
#include "tests/kernels/cuda/emulated_backend.h"

namespace mea {

absl::StatusOr<std::unique_ptr<Backend>> CreateEmulatedCudaBackend(const CudaOptions& options) {
  return OpenCudaBackend(options);
}

}  // namespace mea
