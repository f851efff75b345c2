#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mea {

// The threads that tokenize and detokenize, so that neither the engine's thread nor gRPC's does.
// Jobs of the same request that must keep their order are kept in it by Generation, which has at
// most one of them here at a time. Thread-safe; the destructor finishes what was posted.
class TextWorkers {
 public:
  using Job = std::function<void()>;

  TextWorkers(int num_threads, int max_jobs);
  ~TextWorkers();
  TextWorkers(const TextWorkers&) = delete;
  TextWorkers& operator=(const TextWorkers&) = delete;

  // Work that a client asked for. False where max_jobs wait already.
  [[nodiscard]] bool Post(Job job) ABSL_LOCKS_EXCLUDED(mu_);
  // Output of requests that run: goes first and is never refused. Bounded by the engine, which
  // bounds the requests in flight.
  void PostOutput(Job job) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return stopping_ || !jobs_.empty() || !output_jobs_.empty();
  }

  const size_t max_jobs_;
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<Job> output_jobs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace mea
