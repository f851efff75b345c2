#pragma once

#include <cstdint>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace mea {

// The most that the machine can do, measured with the same threads as the kernels.

// Sums 256 MiB of memory, far more than any cache holds.
class MemoryReader {
 public:
  explicit MemoryReader(int num_threads);
  void Run();
  int64_t bytes() const { return memory_.num_bytes(); }

 private:
  ThreadPool pool_;
  const Tensor memory_;
};

// Independent multiply-adds in registers, as the best target's products with such weights do them.
class ProductLoop {
 public:
  explicit ProductLoop(int num_threads);
  void Run(DType weights);
  int64_t flops(DType weights) const;

 private:
  ThreadPool pool_;
  const cpu::MatMulKernels kernels_;
};

}  // namespace mea
