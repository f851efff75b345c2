#pragma once

#include <functional>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace mea {

// Finds connections that start calls and reset them, before their message came or of a method that
// costs nothing to answer, faster than anybody has reason to: each costs the server a call, and the
// client nothing (HTTP/2's rapid reset). Thread-safe.
class ResetGuard {
 public:
  // Gets the connection's name as in gRPC's contexts; any thread. Set it before the first call.
  void OnTooMany(std::function<void(const std::string& peer)> cut) { cut_ = std::move(cut); }

  // A call of that connection was reset for nothing.
  void Count(const std::string& peer) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  std::function<void(const std::string& peer)> cut_;
  absl::Mutex mu_;
  absl::Time period_end_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::unordered_map<std::string, int> resets_ ABSL_GUARDED_BY(mu_);  // in this period
};

}  // namespace mea
