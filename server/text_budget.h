#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/limits.h"

namespace mea {

// A place in the budget for so many bytes of text; given back when the last copy goes.
struct TextLease {
  std::shared_ptr<void> hold;
  int64_t bytes = 0;
};

// Bounds the bytes of text that clients have sent, wait to be worked on and are worked on, of all
// calls together. Large texts may take a part of it alone, so that there is room for small ones.
// Outlives its leases. Thread-safe.
class TextBudget {
 public:
  // RESOURCE_EXHAUSTED with a delay where there is no room.
  absl::StatusOr<TextLease> Take(int64_t bytes);

  int64_t taken() const;  // bytes, now

 private:
  void GiveBack(int64_t bytes);

  mutable std::mutex mu_;
  int64_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t taken_by_large_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mea
