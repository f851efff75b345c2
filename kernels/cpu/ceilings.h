#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace mea {

// What the machine can do at all, measured with the same threads as the kernels.

// Sums 256 MiB of memory, far more than any cache holds.
class MemoryReader {
 public:
  explicit MemoryReader(int num_threads);
  void Run();
  int64_t bytes() const { return static_cast<int64_t>(words_.size()) * 8; }

 private:
  ThreadPool pool_;
  std::vector<uint64_t> words_;
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
