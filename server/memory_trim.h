#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace mea {

// Of this process; 0 where the system does not say.
int64_t ResidentBytes();

// Gives memory back to the system that a burst took: the allocator keeps it, for it may need it
// again soon, and the pieces in use between it would let it go only by chance. One thread.
class MemoryTrim {
 public:
  // Called now and then; `idle`: no request is in flight.
  void Look(bool idle, absl::Time now);

 private:
  int64_t least_bytes_ = ResidentBytes();  // that were ever resident when idle
  absl::Time idle_since_ = absl::InfiniteFuture();
  absl::Time next_look_ = absl::InfinitePast();
};

}  // namespace mea
