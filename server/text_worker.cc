#include "server/text_worker.h"

#include <utility>

namespace mea {

TextWorkers::TextWorkers(int num_threads, int max_jobs, int num_kept)
    : max_jobs_(max_jobs), max_jobs_running_(num_threads - num_kept) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

TextWorkers::~TextWorkers() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

bool TextWorkers::Post(Job job) {
  absl::MutexLock lock(&mu_);
  if (jobs_.size() >= max_jobs_) return false;
  jobs_.push_back(std::move(job));
  return true;
}

void TextWorkers::PostOutput(Job job) {
  absl::MutexLock lock(&mu_);
  output_jobs_.push_back(std::move(job));
}

void TextWorkers::Run() {
  for (;;) {
    Job job;
    bool is_output = false;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &TextWorkers::HasWork));
      is_output = !output_jobs_.empty();
      // When it is time to stop, whoever runs the jobs takes the rest of them too.
      if (!is_output && !CanTakeJob()) return;
      std::deque<Job>& queue = is_output ? output_jobs_ : jobs_;
      job = std::move(queue.front());
      queue.pop_front();
      num_jobs_running_ += !is_output;
    }
    job();
    if (is_output) continue;
    absl::MutexLock lock(&mu_);
    --num_jobs_running_;
  }
}

}  // namespace mea
