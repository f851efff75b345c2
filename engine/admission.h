#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/load_forecast.h"

namespace mea {

// Decides when a request is submitted whether it could end before its deadline. The engine thread
// publishes a forecast from time to time; submitting threads calculate with it themselves and wait
// for nobody. In doubt a request is admitted: while too few steps were measured, or if nobody has
// asked lately. The calculation also assumes the least time that the request can take. Thread-safe.
class Admission {
 public:
  // Any thread. RESOURCE_EXHAUSTED "DEADLINE_UNREACHABLE", with how late the request would end.
  absl::Status Check(const Request& request, absl::Time now);
  // Any thread. After how long the queue should have room again: when so many of its requests and
  // prompt tokens have begun.
  absl::Duration UntilRoom(int num_requests, int64_t num_tokens, absl::Time now);
  // Any thread. A request was put into the inbox.
  void Submitted(const Request& request, int num_completions = 1);

  // Engine thread.
  // How many requests have ended before their deadlines, and how many because of them, since the
  // start. If too many are late, the forecasts are too short and are discounted less.
  void Learn(int64_t met, int64_t missed);
  // Whether to publish a forecast: somebody has asked lately, and the last one is no longer fresh.
  bool WantsForecast(absl::Time now) const;
  // `forecast` does not yet have the newest `num_in_inbox` submitted completions.
  void Publish(LoadForecast forecast, int num_in_inbox, absl::Time now);

 private:
  struct Snapshot {
    std::shared_ptr<const LoadForecast> forecast;
    std::vector<Work> recent;
    double factor = 1;
  };
  // Returns what is known, and notes that somebody has asked.
  Snapshot Ask(absl::Time now);

  static constexpr double kLeastFactor = 0.8;

  int64_t met_ = 0;  // engine thread, like the next
  int64_t missed_ = 0;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::shared_ptr<const LoadForecast> forecast_;  // shared with those that ask; null: nobody asked
  std::vector<Work> recent_;                      // submitted since
  absl::Time last_asked_ = absl::InfinitePast();
  double factor_ = kLeastFactor;  // applied to forecasts
};

}  // namespace mea
