#include "server/reset_guard.h"

#include <iterator>

#include "absl/time/clock.h"

namespace mea {
namespace {

constexpr absl::Duration kResetPeriod = absl::Seconds(10);
constexpr int kMaxResets = 500;              // of a connection in that time
constexpr int kMaxConnectionsKept = 10'000;  // that are counted

}  // namespace

void ResetGuard::Count(const std::string& peer) {
  {
    const std::lock_guard lock(mu_);
    const absl::Time now = absl::Now();
    if (now >= period_end_ || std::ssize(resets_) >= kMaxConnectionsKept) {
      resets_.clear();
      period_end_ = now + kResetPeriod;
    }
    if (++resets_[peer] != kMaxResets) return;
  }
  if (cut_) cut_(peer);
}

}  // namespace mea
