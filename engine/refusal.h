#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mea {

// RESOURCE_EXHAUSTED that a program can read: `reason` (UPPER_SNAKE_CASE) and, if a retry makes
// sense, after how long.
absl::Status ResourceExhausted(std::string_view message, std::string_view reason,
                               absl::Duration retry_delay = absl::ZeroDuration());

// The same status, with a reason that a program can read.
absl::Status WithReason(absl::Status status, std::string_view reason);

// The contents of such a status; empty for any other status.
std::optional<std::string> RefusalReason(const absl::Status& status);
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

}  // namespace mea
