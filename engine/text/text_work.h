#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

namespace mea {

// OK, or why the work is no longer wanted; called every few milliseconds of work.
using StillWanted = absl::FunctionRef<absl::Status()>;

// The work on one text, counted in steps of about a byte each. Every loop over a text counts its
// steps here, and returns with what it has when told to stop. Used by one thread.
class TextWork {
 public:
  // Work that nothing stops.
  TextWork() = default;
  // Calls `still_wanted`, which must outlive this, before the first step and then every few
  // thousand. More than `max_steps` are INVALID_ARGUMENT.
  explicit TextWork(StillWanted still_wanted,
                    int64_t max_steps = std::numeric_limits<int64_t>::max())
      : still_wanted_(still_wanted), max_steps_(max_steps) {}

  // Counts. False: stop.
  bool Go(int64_t steps) {
    steps_ += steps;
    return steps_ < next_check_ || Check();
  }
  // Ends the work with an error, unless it has ended.
  void Stop(absl::Status why) {
    if (status_.ok()) status_ = std::move(why);
    next_check_ = 0;
  }

  bool stopped() const { return !status_.ok(); }
  const absl::Status& status() const { return status_; }
  int64_t steps() const { return steps_; }

 private:
  static constexpr int64_t kStepsBetweenChecks = 1 << 14;  // a millisecond or two

  bool Check();

  const std::optional<StillWanted> still_wanted_;
  const int64_t max_steps_ = std::numeric_limits<int64_t>::max();
  int64_t steps_ = 0;
  int64_t next_check_ = 0;
  absl::Status status_;
};

}  // namespace mea
