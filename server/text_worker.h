#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mea {

// The threads that tokenize and detokenize, so that neither the engine's thread nor gRPC's does.
// Some threads may be reserved for output, whatever the input costs. Generation keeps the jobs of
// one request in order: it posts at most one at a time. One large text is worked on at a time, so
// small ones do not wait behind several. Thread-safe; the destructor finishes what was posted.
class TextWorkers {
 public:
  using Job = std::function<void()>;

  // `num_kept` of the threads run only output.
  TextWorkers(int num_threads, int max_jobs, int num_kept = 0);
  ~TextWorkers();
  TextWorkers(const TextWorkers&) = delete;
  TextWorkers& operator=(const TextWorkers&) = delete;

  // Work that a client asked for, on this many bytes of text. False if max_jobs wait already.
  [[nodiscard]] bool Post(Job job, int64_t bytes = 0) ABSL_LOCKS_EXCLUDED(mu_);
  // Output of running requests and of subscribers: goes first and is never refused. Bounded by the
  // requests that the engine has in flight, and by KvEvents::kMaxSubscribers.
  void PostOutput(Job job) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run();
  // The next job: a large text if none is being worked on, else a small one, else null.
  std::deque<Job>* NextQueue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || NextQueue() != nullptr; }

  const size_t max_jobs_;
  const int max_jobs_running_;
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  int num_jobs_running_ ABSL_GUARDED_BY(mu_) = 0;  // all except output
  bool large_job_runs_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Job> output_jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<Job> large_jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<Job> small_jobs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace mea
