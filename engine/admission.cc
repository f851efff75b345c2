#include "engine/admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"

namespace mea {
namespace {

// The engine thread spends up to 0.3 ms on a forecast of a thousand requests. An old one stays
// valid, since it counts from its own time.
constexpr absl::Duration kLeastAge = absl::Milliseconds(50);
// If nobody has asked for this long, no more are made.
constexpr absl::Duration kAskedLately = absl::Seconds(10);

// Forecasts are near the shortest time that a request takes. Under steady overload every request is
// admitted at the limit, so a limit that is too late would make all of them late. So the factor on
// forecasts settles where one in eleven misses its deadline; while none does it stays at its
// minimum.
constexpr double kMostFactor = 1.25;
constexpr double kPerMissed = 0.01;
constexpr double kPerMet = 0.001;

// While nothing is known.
constexpr absl::Duration kDefaultRetryDelay = absl::Seconds(1);
constexpr absl::Duration kLeastRetryDelay = absl::Milliseconds(100);
constexpr absl::Duration kMostRetryDelay = absl::Minutes(1);

absl::Duration AsRetryDelay(absl::Duration duration) {
  return std::clamp(duration, kLeastRetryDelay, kMostRetryDelay);
}

}  // namespace

Admission::Snapshot Admission::Ask(absl::Time now) {
  std::lock_guard lock(mutex_);
  last_asked_ = now;
  return {forecast_, recent_, factor_};
}

absl::Status Admission::Check(const Request& request, absl::Time now) {
  if (request.deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const Snapshot snapshot = Ask(now);
  const LoadForecast* forecast = snapshot.forecast.get();
  if (forecast == nullptr || !forecast->is_known) return absl::OkStatus();
  const Work own = LeastWork(*forecast, request);
  const auto expected = [&](double seconds) { return absl::Seconds(snapshot.factor * seconds); };
  const absl::Time end =
      std::max(forecast->time + expected(SecondsUntilEnd(*forecast, snapshot.recent, own)),
               now + expected(SecondsAlone(*forecast, own)));
  if (end <= request.deadline) return absl::OkStatus();
  return ResourceExhausted(
      absl::StrCat("the deadline in ", absl::FormatDuration(request.deadline - now),
                   " cannot be met: the request would not end within ",
                   absl::FormatDuration(end - now)),
      "DEADLINE_UNREACHABLE", AsRetryDelay(end - request.deadline));
}

absl::Duration Admission::UntilRoom(int num_requests, int64_t num_tokens, absl::Time now) {
  const Snapshot snapshot = Ask(now);
  const LoadForecast* forecast = snapshot.forecast.get();
  if (forecast == nullptr || !forecast->is_known) return kDefaultRetryDelay;
  const double seconds = SecondsUntilBegun(*forecast, snapshot.recent, num_requests, num_tokens);
  return AsRetryDelay(forecast->time + absl::Seconds(seconds) - now);
}

void Admission::Submitted(const Request& request, int num_completions) {
  std::lock_guard lock(mutex_);
  if (forecast_ == nullptr) return;
  Work work = ExpectedWork(*forecast_, request);
  recent_.push_back(work);
  // Only the tokens of the others: the prompt is computed once.
  work.prompt_tokens = 1;
  work.num_pages = forecast_->layout->num_groups();
  recent_.insert(recent_.end(), num_completions - 1, work);
}

void Admission::Learn(int64_t met, int64_t missed) {
  const auto met_since = static_cast<double>(met - std::exchange(met_, met));
  const auto missed_since = static_cast<double>(missed - std::exchange(missed_, missed));
  if (met_since == 0 && missed_since == 0) return;
  std::lock_guard lock(mutex_);
  factor_ = std::clamp(factor_ + kPerMissed * missed_since - kPerMet * met_since, kLeastFactor,
                       kMostFactor);
}

bool Admission::WantsForecast(absl::Time now) const {
  std::lock_guard lock(mutex_);
  if (now - last_asked_ > kAskedLately) return forecast_ != nullptr;
  return forecast_ == nullptr || now - forecast_->time >= kLeastAge;
}

void Admission::Publish(LoadForecast forecast, int num_in_inbox, absl::Time now) {
  forecast.time = now;
  auto published = std::make_shared<const LoadForecast>(std::move(forecast));
  std::lock_guard lock(mutex_);
  if (now - last_asked_ > kAskedLately) {
    forecast_ = nullptr;
    recent_.clear();
    return;
  }
  forecast_ = std::move(published);
  const int known = std::max(0, static_cast<int>(recent_.size()) - num_in_inbox);
  recent_.erase(recent_.begin(), recent_.begin() + known);
}

}  // namespace mea
