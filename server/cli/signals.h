#pragma once

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"

namespace mea {

// SIGINT and SIGTERM. Until Arm one of them ends the program at once; from then on the first is
// what WaitFor waits for, and the second ends the program at once. Create it before any other
// thread: they inherit that these signals are not for them. Lives as long as the program.
class Signals {
 public:
  Signals();
  void Arm() { armed_ = true; }
  // False when none has come within that time.
  bool WaitFor(absl::Duration timeout) { return received_.WaitForNotificationWithTimeout(timeout); }

 private:
  [[noreturn]] void Run();

  std::atomic<bool> armed_ = false;
  absl::Notification received_;
};

}  // namespace mea
