#pragma once

#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mea {

// Ctrl-C: ends the current action, or calls `when_idle` if there is none. Create it before any
// other thread: they inherit the blocked signal. Lives as long as the program.
class Interrupts {
 public:
  explicit Interrupts(std::function<void()> when_idle);

  // From here on Ctrl-C calls `cancel`, on a thread of its own.
  void Begin(std::function<void()> cancel) ABSL_LOCKS_EXCLUDED(mu_);
  // Whether it did.
  bool End() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  [[noreturn]] void Run();

  const std::function<void()> when_idle_;
  absl::Mutex mu_;
  std::function<void()> cancel_ ABSL_GUARDED_BY(mu_);
  bool fired_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mea
