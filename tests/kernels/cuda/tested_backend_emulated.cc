#include <cstdlib>
#include <iostream>

#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/tested_backend.h"

namespace mea {

std::unique_ptr<Backend> MakeCuda(const CudaOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = cuda::CreateCudaBackend(options);
  if (backend.ok()) return *std::move(backend);
  std::cerr << backend.status() << '\n';
  std::abort();
}

}  // namespace mea
