#include "server/text_worker.h"

#include <utility>

#include "server/limits.h"

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

bool TextWorkers::Post(Job job, int64_t bytes) {
  absl::MutexLock lock(&mu_);
  if (large_jobs_.size() + small_jobs_.size() >= max_jobs_) return false;
  (bytes > kLargeTextBytes ? large_jobs_ : small_jobs_).push_back(std::move(job));
  return true;
}

void TextWorkers::PostOutput(Job job) {
  absl::MutexLock lock(&mu_);
  output_jobs_.push_back(std::move(job));
}

std::deque<TextWorkers::Job>* TextWorkers::NextQueue() {
  if (!output_jobs_.empty()) return &output_jobs_;
  if (num_jobs_running_ >= max_jobs_running_) return nullptr;
  if (!large_jobs_.empty() && !large_job_runs_) return &large_jobs_;
  return small_jobs_.empty() ? nullptr : &small_jobs_;
}

void TextWorkers::Run() {
  for (;;) {
    Job job;
    bool is_output = false;
    bool is_large = false;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &TextWorkers::HasWork));
      std::deque<Job>* queue = NextQueue();
      // When stopping, the thread that runs the jobs also takes the remaining ones.
      if (queue == nullptr) return;
      is_output = queue == &output_jobs_;
      is_large = queue == &large_jobs_;
      job = std::move(queue->front());
      queue->pop_front();
      num_jobs_running_ += !is_output;
      large_job_runs_ |= is_large;
    }
    job();
    job = nullptr;  // its captures are destroyed before its place is freed
    if (is_output) continue;
    absl::MutexLock lock(&mu_);
    --num_jobs_running_;
    large_job_runs_ &= !is_large;
  }
}

}  // namespace mea
