#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace mea {

// The most that a machine can do.
struct Roofline {
  double bytes_per_second = 0;
  double flops_per_second = 0;          // of floats
  double product_flops_per_second = 0;  // of products with weights
};

struct RooflineSizes {
  int num_threads = 0;                    // of the host; 0 = one per core
  int64_t copy_bytes = int64_t{1} << 30;  // on a device: read once and written once
  int64_t product_size = 8192;            // on a device: rows, inputs and outputs of a MatMul
};

// Measures the roofline of a back end's machine repeatedly during a run: it drifts with load and
// temperature, so compare a speed with the roofline of the same minute. On the host: reading memory
// far larger than any cache, and multiply-adds in registers. On a device: a copy within its memory
// (bytes read and written count), and one large MatMul of random numbers.
class RooflineMeter {
 public:
  virtual ~RooflineMeter() = default;
  // One reading of all. `weights` are those of the products, which the host's kernels multiply with
  // instructions of their own; a device has its own dtype.
  virtual absl::StatusOr<Roofline> Read(DType weights = DType::kF32) = 0;
};

// The meter needs its own back end: what it prepares for is not what a model needs.
absl::StatusOr<std::unique_ptr<RooflineMeter>> CreateRooflineMeter(std::unique_ptr<Backend> backend,
                                                                   const RooflineSizes& sizes = {});

}  // namespace mea
