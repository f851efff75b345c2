#include "server/text_worker.h"

#include <utility>

namespace mea {

TextWorkers::TextWorkers(int num_threads, int max_jobs) : max_jobs_(max_jobs) {
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
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &TextWorkers::HasWork));
      std::deque<Job>& queue = output_jobs_.empty() ? jobs_ : output_jobs_;
      if (queue.empty()) return;
      job = std::move(queue.front());
      queue.pop_front();
    }
    job();
  }
}

}  // namespace mea
