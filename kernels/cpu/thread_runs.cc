#include "kernels/cpu/thread_runs.h"

#include "kernels/check.h"

namespace mea::cpu {

void ThreadRuns::Deal(int64_t num_items, int num_threads) {
  MEA_CHECK(num_items >= 0 && num_items <= UINT32_MAX);
  if (num_threads != num_threads_) runs_ = std::make_unique<Run[]>(num_threads);
  num_threads_ = num_threads;
  for (int thread = 0; thread < num_threads_; ++thread) {
    const auto first = static_cast<uint64_t>(num_items * thread / num_threads_);
    const auto end = static_cast<uint64_t>(num_items * (thread + 1) / num_threads_);
    runs_[thread].left.store(first << 32 | end, std::memory_order_relaxed);
  }
}

int64_t ThreadRuns::Take(int thread) {
  for (int i = 0; i < num_threads_; ++i) {
    const bool is_own = i == 0;
    Run& run = runs_[(thread + i) % num_threads_];
    uint64_t left = run.left.load(std::memory_order_relaxed);
    while (left >> 32 < static_cast<uint32_t>(left)) {
      const uint64_t less = is_own ? left + (uint64_t{1} << 32) : left - 1;
      if (run.left.compare_exchange_weak(left, less, std::memory_order_relaxed)) {
        return static_cast<int64_t>(is_own ? left >> 32 : static_cast<uint32_t>(less));
      }
    }
  }
  MEA_CHECK(false);  // more calls than items
  return 0;
}

}  // namespace mea::cpu
