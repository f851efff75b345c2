#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace mea::cpu {

// Deals the items of a loop to threads so that each takes neighbours one after the other: what a
// thread has read ahead behind one item is the next. A thread whose own items are gone takes the
// last ones of others.
class ThreadRuns {
 public:
  // Before a loop: equally many of its items to each thread. At most 2^32 - 1 items.
  void Deal(int64_t num_items, int num_threads);

  // An item that nobody has taken. Any thread of the loop, once for each item.
  int64_t Take(int thread);

 private:
  struct alignas(64) Run {
    std::atomic<uint64_t> left{0};  // first << 32 | end
  };

  int num_threads_ = 0;
  std::unique_ptr<Run[]> runs_;
};

}  // namespace mea::cpu
