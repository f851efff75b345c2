#include <cstdlib>
#include <iostream>

#include "tests/kernels/cuda/tested_backend.h"

namespace mea {

std::unique_ptr<Backend> MakeCuda(const CudaOptions& options) {
  absl::StatusOr<std::unique_ptr<Backend>> backend = OpenCudaBackend(options);
  if (backend.ok()) return *std::move(backend);
  if (absl::IsUnavailable(backend.status())) return nullptr;
  std::cerr << backend.status() << '\n';
  std::abort();
}

}  // namespace mea
