#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda_module.h"

namespace mea {

// Products by the library's first choice, and less memory than a real device spares: emulated
// memory costs time.
inline constexpr CudaOptions kEmulatedCuda = {.search_products = false,
                                              .product_scratch_bytes = 4 << 20};

// The CUDA back end on an emulated device (tests/simt); in the tests of tests/gpu on the machine's
// own. Knows no CUDA header, so that tests of any room can use it.
absl::StatusOr<std::unique_ptr<Backend>> CreateEmulatedCudaBackend(
    const CudaOptions& options = kEmulatedCuda);

}  // namespace mea
