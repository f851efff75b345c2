#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/outlook.h"

namespace mea {

// Tells at the door whether a request could end before its deadline. The engine thread leaves an
// outlook from time to time; those who submit reckon with it on their own threads and wait for
// nobody. In doubt a request is admitted: while too few steps were measured, where nobody has asked
// lately, and because what is reckoned with is the least it can take. Thread-safe.
class Admission {
 public:
  // Any thread. RESOURCE_EXHAUSTED "DEADLINE_UNREACHABLE" with the time by which it would be late.
  absl::Status Check(const Request& request, absl::Time now);
  // Any thread. After how long the queue should have room again, once so many requests and prompt
  // tokens of it have begun.
  absl::Duration UntilRoom(int num_requests, int64_t num_tokens, absl::Time now);
  // Any thread. A request was put into the inbox.
  void Submitted(const Request& request, int num_completions = 1);

  // Engine thread.
  void Observe(const StepReport& report) { step_time_.Observe(report); }
  // How many have ended before their deadlines and by them, since the start: where too many are
  // late, forecasts are too short, and the caution with which they are taken grows less.
  void Learn(int64_t met, int64_t missed);
  // Whether to make an outlook: somebody has asked lately, and the last one is not quite new.
  bool WantsOutlook(absl::Time now) const;
  // `outlook` lacks step times, and the newest `num_in_inbox` completions that were submitted.
  void Publish(Outlook outlook, int num_in_inbox, absl::Time now);

 private:
  struct Snapshot {
    std::shared_ptr<const Outlook> outlook;
    std::vector<Work> recent;
    double factor = 1;
  };
  // What is known, and a note that somebody has asked.
  Snapshot Ask(absl::Time now);

  static constexpr double kLeastFactor = 0.8;

  StepTimeModel step_time_;  // engine thread, like the next two
  int64_t met_ = 0;
  int64_t missed_ = 0;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::shared_ptr<const Outlook> outlook_;  // shared with those who reckon; null: nobody asked
  std::vector<Work> recent_;                // submitted since
  absl::Time last_asked_ = absl::InfinitePast();
  double factor_ = kLeastFactor;  // on forecasts
};

}  // namespace mea
