#pragma once

#include <cstdint>

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

// Independent multiply-adds in registers, of the widest vectors the machine has.
class FmaLoop {
 public:
  explicit FmaLoop(int num_threads) : pool_(num_threads) {}
  void Run();
  int64_t flops() const;

 private:
  ThreadPool pool_;
};

}  // namespace mea
