#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"
#include "engine/clock.h"

namespace mea {

// An event that happens once. Timeouts go by the monotonic clock, as those of Abseil do not.
class Notification {
 public:
  void Notify() {
    const std::lock_guard lock(mutex_);
    notified_ = true;
    changed_.notify_all();  // locked: who waits may end us
  }
  bool HasBeenNotified() const {
    const std::lock_guard lock(mutex_);
    return notified_;
  }
  void WaitForNotification() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return notified_; });
  }
  bool WaitForNotificationWithTimeout(absl::Duration timeout) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, ToSteadyTime(Now() + timeout), [this] { return notified_; });
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool notified_ = false;  // guarded by mutex_
};

}  // namespace mea
