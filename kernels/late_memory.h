#pragma once

#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace mea {

// Host memory that can be used at once while a thread of its own lets its pages come into being:
// for a cache of many gigabytes, which would take seconds. All tensors grow from their beginnings,
// where a cache is used first. The thread ends with this object.
class LateMemory {
 public:
  LateMemory() = default;
  LateMemory(const LateMemory&) = delete;
  LateMemory& operator=(const LateMemory&) = delete;

  // RESOURCE_EXHAUSTED where even the addresses are too many.
  absl::StatusOr<Tensor> Allocate(std::span<const int64_t> shape, DType dtype);
  // Once, after the last Allocate.
  void Start();

 private:
  void Run(const std::stop_token& stop);

  std::vector<Tensor> tensors_;
  std::jthread thread_;
};

}  // namespace mea
