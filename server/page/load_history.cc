#include "server/page/load_history.h"

#include <algorithm>
#include <utility>

namespace mea {

void LoadHistory::Look(const EngineStats& stats, absl::Time now) {
  absl::MutexLock lock(&mu_);
  if (last_time_ == absl::InfinitePast()) last_time_ = now;
  if (stats.kv.used_bytes >= next_.used_bytes) {
    next_.used_bytes = stats.kv.used_bytes;
    next_.used_bytes_uncompressed = stats.kv.used_bytes_uncompressed;
    next_.cached_bytes = stats.kv.cached_bytes;
    next_.num_running = stats.num_running;
    next_.num_waiting = stats.num_waiting;
  }
  if (now - last_time_ < kPeriod) return;
  next_.time = last_time_ = now;
  next_.prompt_tokens = stats.prompt_tokens;
  next_.generation_tokens = stats.generation_tokens;
  samples_.push_back(std::exchange(next_, {}));
  if (samples_.size() <= kMaxSamples) return;
  samples_.pop_front();
  ++num_dropped_;
}

LoadHistory::Part LoadHistory::After(int64_t after) const {
  absl::MutexLock lock(&mu_);
  const auto skipped =
      std::clamp<int64_t>(after - num_dropped_, 0, static_cast<int64_t>(samples_.size()));
  return {.first = num_dropped_ + skipped + 1,
          .samples = {samples_.begin() + skipped, samples_.end()}};
}

}  // namespace mea
