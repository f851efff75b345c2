#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace mea {

// The load in one second.
struct LoadSample {
  absl::Time time;  // its end
  // Of the moment at which most cache memory was used.
  int64_t used_bytes = 0;
  int64_t used_bytes_uncompressed = 0;
  int64_t cached_bytes = 0;
  int num_running = 0;
  int num_waiting = 0;
  // Since the start.
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
};

// The load of the last minutes, so that a page shows them from its first moment. Thread-safe.
class LoadHistory {
 public:
  static constexpr absl::Duration kPeriod = absl::Seconds(1);
  static constexpr int kMaxSamples = 600;

  // Samples are numbered from 1 on.
  struct Part {
    int64_t first = 1;  // number of the first one
    std::vector<LoadSample> samples;
  };

  // Called several times a second.
  void Look(const EngineStats& stats, absl::Time now) ABSL_LOCKS_EXCLUDED(mu_);
  // The samples after number `after`.
  Part After(int64_t after) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  mutable absl::Mutex mu_;
  absl::Time last_time_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();  // of a sample
  LoadSample next_ ABSL_GUARDED_BY(mu_);
  std::deque<LoadSample> samples_ ABSL_GUARDED_BY(mu_);
  int64_t num_dropped_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mea
