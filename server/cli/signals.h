#pragma once

#include <atomic>
#include <string>

#include "server/notification.h"

namespace mea {

// SIGINT and SIGTERM. Until Arm one of them ends the program at once, with a line on stderr; from
// then on the first is what WaitFor waits for, and the second ends the program at once. Create it
// before any other thread: they inherit that these signals are not for them. Lives as long as the
// program.
class Signals {
 public:
  explicit Signals(std::string early_line);
  void Arm() { armed_ = true; }
  // False when none has come within that time.
  bool WaitFor(absl::Duration timeout) { return received_.WaitForNotificationWithTimeout(timeout); }

 private:
  [[noreturn]] void Run();

  const std::string early_line_;
  std::atomic<bool> armed_ = false;
  Notification received_;
};

}  // namespace mea
