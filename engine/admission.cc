#include "engine/admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"

namespace mea {
namespace {

// The engine thread spends up to 0.3 ms on an outlook of a thousand requests. An old one stays
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
  return {outlook_, recent_, factor_};
}

absl::Status Admission::Check(const Request& request, absl::Time now) {
  if (request.deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const Snapshot snapshot = Ask(now);
  const Outlook* outlook = snapshot.outlook.get();
  if (outlook == nullptr || !outlook->is_known) return absl::OkStatus();
  const Work own = LeastWork(*outlook, request);
  const auto expected = [&](double seconds) { return absl::Seconds(snapshot.factor * seconds); };
  const absl::Time end =
      std::max(outlook->time + expected(SecondsUntilEnd(*outlook, snapshot.recent, own)),
               now + expected(SecondsAlone(*outlook, own)));
  if (end <= request.deadline) return absl::OkStatus();
  return ResourceExhausted(
      absl::StrCat("the deadline in ", absl::FormatDuration(request.deadline - now),
                   " cannot be met: the request would not end within ",
                   absl::FormatDuration(end - now)),
      "DEADLINE_UNREACHABLE", AsRetryDelay(end - request.deadline));
}

absl::Duration Admission::UntilRoom(int num_requests, int64_t num_tokens, absl::Time now) {
  const Snapshot snapshot = Ask(now);
  const Outlook* outlook = snapshot.outlook.get();
  if (outlook == nullptr || !outlook->is_known) return kDefaultRetryDelay;
  const double seconds = SecondsUntilBegun(*outlook, snapshot.recent, num_requests, num_tokens);
  return AsRetryDelay(outlook->time + absl::Seconds(seconds) - now);
}

void Admission::Submitted(const Request& request, int num_completions) {
  std::lock_guard lock(mutex_);
  if (outlook_ == nullptr) return;
  Work work = ExpectedWork(*outlook_, request);
  recent_.push_back(work);
  // Only the tokens of the others: the prompt is computed once.
  work.prompt_tokens = 1;
  work.num_pages = outlook_->layout->num_groups();
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

bool Admission::WantsOutlook(absl::Time now) const {
  std::lock_guard lock(mutex_);
  if (now - last_asked_ > kAskedLately) return outlook_ != nullptr;
  return outlook_ == nullptr || now - outlook_->time >= kLeastAge;
}

void Admission::Publish(Outlook outlook, int num_in_inbox, absl::Time now) {
  outlook.time = now;
  auto published = std::make_shared<const Outlook>(std::move(outlook));
  std::lock_guard lock(mutex_);
  if (now - last_asked_ > kAskedLately) {
    outlook_ = nullptr;
    recent_.clear();
    return;
  }
  outlook_ = std::move(published);
  const int known = std::max(0, static_cast<int>(recent_.size()) - num_in_inbox);
  recent_.erase(recent_.begin(), recent_.begin() + known);
}

}  // namespace mea
