#pragma once

#include <functional>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace mea {

enum class ServingState { kServing, kStalled, kDraining, kFailed };

// "SERVING", "DRAINING", ...
std::string_view ServingStateName(ServingState state);

// Whether work is accepted. A state only gets worse, except for a stalled engine that moves again.
// Thread-safe.
class Readiness {
 public:
  ServingState state() const ABSL_LOCKS_EXCLUDED(mu_);
  // UNAVAILABLE once the server is about to end.
  absl::Status CheckNotDraining() const;

  // False, and no change, if the present state is worse.
  bool Set(ServingState state) ABSL_LOCKS_EXCLUDED(mu_);

  // Calls `observer` with the present state and with every later one, in order.
  void Observe(std::function<void(ServingState)> observer) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  mutable absl::Mutex mu_;
  ServingState state_ ABSL_GUARDED_BY(mu_) = ServingState::kServing;
  std::function<void(ServingState)> observer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mea
