#include "engine/refusal.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr char kReason[] = "mea/reason";
constexpr char kRetryDelayMs[] = "mea/retry_delay_ms";

}  // namespace

absl::Status ResourceExhausted(std::string_view message, std::string_view reason,
                               absl::Duration retry_delay) {
  absl::Status status(absl::StatusCode::kResourceExhausted, {message.data(), message.size()});
  status.SetPayload(kReason, absl::Cord(absl::string_view(reason.data(), reason.size())));
  if (retry_delay > absl::ZeroDuration()) {
    status.SetPayload(kRetryDelayMs,
                      absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(retry_delay))));
  }
  return status;
}

absl::Status WithReason(absl::Status status, std::string_view reason) {
  status.SetPayload(kReason, absl::Cord(absl::string_view(reason.data(), reason.size())));
  return status;
}

std::optional<std::string> RefusalReason(const absl::Status& status) {
  const auto reason = status.GetPayload(kReason);
  if (!reason) return std::nullopt;
  return std::string(*reason);
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto delay = status.GetPayload(kRetryDelayMs);
  int64_t ms = 0;
  if (!delay || !absl::SimpleAtoi(std::string(*delay), &ms)) return std::nullopt;
  return absl::Milliseconds(ms);
}

}  // namespace mea
