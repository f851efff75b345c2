#include "server/reset_guard.h"
#include "engine/clock.h"

#include <iterator>

namespace mea {
namespace {

constexpr absl::Duration kResetPeriod = absl::Seconds(10);
constexpr int kMaxResets = 500;              // of a connection in that time
constexpr int kMaxConnectionsKept = 10'000;  // that are counted

}  // namespace

void ResetGuard::Count(const std::string& peer) {
  {
    absl::MutexLock lock(&mu_);
    const absl::Time now = Now();
    if (now >= period_end_ || std::ssize(resets_) >= kMaxConnectionsKept) {
      resets_.clear();
      period_end_ = now + kResetPeriod;
    }
    if (++resets_[peer] != kMaxResets) return;
  }
  if (cut_) cut_(peer);
}

}  // namespace mea
