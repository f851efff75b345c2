#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/log.h"
#include "server/notification.h"

namespace mea {

// What a start that takes its time is at: the event "loading", every 1.5 s until it is destroyed,
// whether or not the step under way tells of progress. Owns the thread that writes. Thread-safe.
class LoadLog {
 public:
  LoadLog(std::string model, Log& log);
  ~LoadLog();

  // The step under way, a constant of ours, and how far it is; 0 bytes where that is not known.
  void Show(std::string_view step, int64_t bytes_done = 0, int64_t bytes_total = 0)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  std::string Step() const ABSL_LOCKS_EXCLUDED(mu_);

  const std::string model_;
  Log& log_;
  const absl::Time start_;
  mutable absl::Mutex mu_;
  std::string_view step_ ABSL_GUARDED_BY(mu_) = "checkpoint";
  int64_t bytes_done_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t bytes_total_ ABSL_GUARDED_BY(mu_) = 0;
  Notification stop_;
  std::thread thread_;
};

}  // namespace mea
