#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "absl/time/time.h"
#include "engine/clock.h"

namespace mea {

// Counts calls that a drain waits for. Thread-safe; outlives them.
class OpenCalls {
 public:
  void Enter() {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  void Leave() {
    const std::lock_guard lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }
  // One more, for as long as it is held.
  std::shared_ptr<void> Hold() {
    Enter();
    return {this, [](OpenCalls* calls) { calls->Leave(); }};
  }
  // Waits until there is none, or the deadline has passed.
  void AwaitNone(absl::Time deadline) {
    std::unique_lock lock(mutex_);
    none_.wait_until(lock, ToSteadyTime(deadline), [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;  // Abseil's waits with a timeout go by the wall clock
  std::condition_variable none_;
  int count_ = 0;  // guarded by mutex_
};

}  // namespace mea
