#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace mea {

// When the pages of new memory come into being. A page that nobody has used yet costs its first
// user the time of finding and clearing it.
enum class Presence : uint8_t {
  kNow,    // all of them before the allocation returns, which fails if there are not enough
  kAtUse,  // one by one, on the node of the thread that uses it first
};

// Smaller memory is always present.
inline constexpr int64_t kLargeBytes = int64_t{4} << 20;

// Tensor::AllocateHost with a choice. Zeroed either way, and in large pages where it is large.
absl::StatusOr<Tensor> AllocateHostTensor(std::span<const int64_t> shape, DType dtype,
                                          Presence presence);

}  // namespace mea
