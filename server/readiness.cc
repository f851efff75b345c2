#include "server/readiness.h"

namespace mea {

std::string_view ServingStateName(ServingState state) {
  switch (state) {
    case ServingState::kServing:
      return "SERVING";
    case ServingState::kStalled:
      return "STALLED";
    case ServingState::kDraining:
      return "DRAINING";
    case ServingState::kFailed:
      return "FAILED";
  }
  return "?";
}

ServingState Readiness::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

absl::Status Readiness::CheckNotDraining() const {
  if (state() != ServingState::kDraining) return absl::OkStatus();
  return absl::UnavailableError("the server is DRAINING");
}

bool Readiness::Set(ServingState state) {
  absl::MutexLock lock(&mu_);
  const bool recovers = state_ == ServingState::kStalled && state == ServingState::kServing;
  if (state < state_ && !recovers) return false;
  if (state != state_ && observer_) observer_(state);
  state_ = state;
  return true;
}

void Readiness::Observe(std::function<void(ServingState)> observer) {
  absl::MutexLock lock(&mu_);
  observer_ = std::move(observer);
  if (observer_) observer_(state_);
}

}  // namespace mea
