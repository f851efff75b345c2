#pragma once

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/limits.h"

namespace mea {

// A reservation in the budget for some bytes of text; returned when the last copy is destroyed.
struct TextLease {
  std::shared_ptr<void> hold;
  int64_t bytes = 0;
};

// Bounds the bytes of clients' text that wait or are worked on, for all calls together. Large texts
// may take only a part of it, so that there is room for small ones. Must outlive its leases.
// Thread-safe.
class TextBudget {
 public:
  // RESOURCE_EXHAUSTED with a delay if there is no room.
  absl::StatusOr<TextLease> Take(int64_t bytes);

  int64_t taken() const;  // bytes, now

 private:
  void GiveBack(int64_t bytes);

  mutable absl::Mutex mu_;
  int64_t taken_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t taken_by_large_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace mea
