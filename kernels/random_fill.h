#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace mea {

// Uniform numbers in [low, high).
struct UniformRange {
  float low = -1;
  float high = 1;
  uint64_t seed = 1;
};

// Fills a dense tensor of the back end (F32 or BF16) with finite numbers, for measuring speed:
// zeros would cost a machine less power than real data. They repeat after some 2^20 elements, so
// filling a device takes no longer than copying within it.
absl::Status FillRandom(Backend& backend, TensorView view, const UniformRange& range);

}  // namespace mea
