#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace mea {

// An allowance per minute, which refills evenly up to one minute's worth.
class MinuteRate {
 public:
  // 0: no limit. The saved allowance stays, up to the new limit.
  void SetLimit(int64_t per_minute, absl::Time now) {
    Refill(now);
    const double limit = static_cast<double>(per_minute);
    saved_ = limit_ == 0 ? limit : std::min(saved_, limit);
    limit_ = limit;
  }

  // The time until `amount` is available, or a minute's worth if it is more; zero: it is.
  absl::Duration Wait(int64_t amount, absl::Time now) {
    Refill(now);
    const double missing = std::min(static_cast<double>(amount), limit_) - saved_;
    return limit_ == 0 || missing <= 0 ? absl::ZeroDuration()
                                       : absl::Minutes(1) * (missing / limit_);
  }

  // More than is available leaves a debt; a negative amount gives back.
  void Take(int64_t amount) {
    if (limit_ > 0) saved_ = std::min(saved_ - static_cast<double>(amount), limit_);
  }

 private:
  // A clock that is set back refills nothing.
  void Refill(absl::Time now) {
    const double minutes = absl::FDivDuration(now - filled_, absl::Minutes(1));
    filled_ = now;
    if (minutes > 0) saved_ = std::min(saved_ + minutes * limit_, limit_);
  }

  double limit_ = 0;
  double saved_ = 0;
  absl::Time filled_ = absl::UnixEpoch();
};

}  // namespace mea
