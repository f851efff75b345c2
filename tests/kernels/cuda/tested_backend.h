#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda_module.h"

namespace mea {

// Products by the library's first choice, rows that do not depend on their batch, and less memory
// than a real device spares: emulated memory costs time.
inline constexpr CudaOptions kTestedCuda = {
    .search_products = false, .batch_invariant = true, .product_scratch_bytes = 4 << 20};

// The CUDA back end as the test's libraries decide: mea_cuda_emulated has it on an emulated device
// (tests/simt), mea_cuda_on_device is the module on the machine's own. Knows no CUDA header, so
// that tests of any room can use it. Null where there is no device; aborts where one does not work.
std::unique_ptr<Backend> MakeCuda(const CudaOptions& options = kTestedCuda);

}  // namespace mea
