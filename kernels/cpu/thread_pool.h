#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace mea {

// Persistent workers that share the items of one loop at a time with the thread that starts it.
// Workers spin for some microseconds between the loops of a step, and sleep if none follows.
// Starting a loop allocates nothing. One thread owns the pool and starts all loops.
class ThreadPool {
 public:
  // `num_threads` counts the caller; 0 means UsableCpus().
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(item, thread) once for every item in [0, num_items), in any order, and returns when
  // all are done. `thread` in [0, num_threads) names the calling thread's scratch memory.
  template <typename Body>
  void ParallelFor(int64_t num_items, const Body& body) {
    Run(num_items, &body, [](const void* erased, int64_t item, int thread) {
      (*static_cast<const Body*>(erased))(item, thread);
    });
  }

 private:
  using Call = void (*)(const void* body, int64_t item, int thread);

  void Run(int64_t num_items, const void* body, Call call);
  void WorkerMain(int thread);
  // Takes items of loop `epoch` until none is left.
  void Drain(uint32_t epoch, int thread);

  // A loop is described by call_, body_ and num_items_, which are stable while any of its items is
  // unfinished. The ticket (epoch << 32 | items left) hands out items, and only it says whether
  // there is one: a worker that wakes too late finds another epoch or no item there and reads
  // nothing else, so nobody ever waits for a sleeping worker.
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> body_{nullptr};
  std::atomic<uint32_t> num_items_{0};
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> num_done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace mea
