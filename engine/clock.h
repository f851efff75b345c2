#pragma once

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace mea {

// The time of deadlines and durations: the wall clock as it was at the start, moved on by the
// monotonic clock, so that nobody who sets the clock ends a request or holds it up. absl::Now() is
// for dates that others read.
inline absl::Time Now() {
  using std::chrono::steady_clock;
  static const absl::Time zero = absl::FromChrono(std::chrono::system_clock::now()) -
                                 absl::FromChrono(steady_clock::now().time_since_epoch());
  return zero + absl::FromChrono(steady_clock::now().time_since_epoch());
}

// For waits of the standard library; a year ahead at most.
inline std::chrono::steady_clock::time_point ToSteadyTime(absl::Time time) {
  const absl::Duration ahead = std::min(time - Now(), absl::Hours(24 * 365));
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(ahead);
}

// The same moment by the wall clock as it stands, which gRPC speaks, and back. absl::Now() would
// notice only after seconds that the clock was set.
inline absl::Time ToWallClock(absl::Time time) {
  return absl::FromChrono(std::chrono::system_clock::now()) + (time - Now());
}
inline absl::Time FromWallClock(absl::Time wall) {
  return Now() + (wall - absl::FromChrono(std::chrono::system_clock::now()));
}

}  // namespace mea
