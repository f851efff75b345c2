#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/thread_plan.h"

namespace mea {

// Persistent workers that share the items of one loop at a time with the thread that starts it.
// Workers spin for some microseconds between the loops of a step, and sleep if none follows.
// Starting a loop allocates nothing. One thread owns the pool and starts all loops.
//
// Threads that share a cache are a cluster. Each cluster owns a stretch of a loop's items and takes
// the others' only when its own are gone; its first thread, woken by the owner of the pool, wakes
// the rest. So what many threads write at once stays in their own cache.
class ThreadPool {
 public:
  // The caller is the first thread of the plan. It moves to the place that the plan names when it
  // first starts a loop.
  explicit ThreadPool(ThreadPlan plan);
  // `num_threads` threads anywhere; 0 means DefaultThreads().
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return plan_.num_threads(); }
  int num_clusters() const { return num_clusters_; }

  // Calls body(item, thread) once for every item in [0, num_items), in any order, and returns when
  // all are done. `thread` in [0, num_threads) names the calling thread's scratch memory.
  template <typename Body>
  void ParallelFor(int64_t num_items, const Body& body) {
    Run(num_items, &body, [](const void* erased, int64_t item, int thread) {
      (*static_cast<const Body*>(erased))(item, thread);
    });
  }

  // The first of a loop's items that cluster `cluster` owns, of `num_items`; for the one behind the
  // last, num_items. In proportion to the threads.
  int64_t FirstItem(int cluster, int64_t num_items) const {
    return num_items * clusters_[cluster].first_thread / num_threads();
  }

 private:
  using Call = void (*)(const void* body, int64_t item, int thread);

  // One more than there are: its first_thread is num_threads().
  struct alignas(64) Cluster {
    int first_thread = 0;
    alignas(64) std::atomic<uint64_t> ticket{0};
    alignas(64) std::atomic<uint32_t> num_done{0};
    alignas(64) std::atomic<uint32_t> epoch{0};  // what its threads wait for, the first excepted
  };

  void Run(int64_t num_items, const void* body, Call call);
  void WorkerMain(int thread);
  void AnnounceLoop(uint32_t epoch);
  // Takes items of loop `epoch` until none is left, those of the thread's own cluster first.
  void Drain(uint32_t epoch, int thread);
  void DrainCluster(uint32_t epoch, int thread, int cluster);
  void Place(int thread) const;

  const ThreadPlan plan_;
  const int num_clusters_;
  std::unique_ptr<Cluster[]> clusters_;
  // Of the owner of the pool:
  bool is_placed_ = false;
  uint32_t num_loops_ = 0;  // the epoch of the latest

  // A loop is described by call_, body_ and num_items_, which are stable while any of its items is
  // unfinished. A cluster's ticket (epoch << 32 | items left) hands out its items, and only it says
  // whether there is one: a worker that wakes too late finds another epoch or no item there and
  // reads nothing else, so nobody ever waits for a sleeping worker.
  alignas(64) std::atomic<Call> call_{nullptr};
  std::atomic<const void*> body_{nullptr};
  std::atomic<uint32_t> num_items_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // what the first threads of clusters wait for
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace mea
