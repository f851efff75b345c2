#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace mea {

// Resident bytes of this process; 0 if the system does not say.
int64_t ResidentBytes();

// Returns the memory of a burst to the system. By itself, the allocator keeps it for reuse, and
// fragmentation would rarely let it go. One thread.
class MemoryTrim {
 public:
  // Called from time to time; `idle`: no request is in flight.
  void Look(bool idle, absl::Time now);

 private:
  int64_t least_bytes_ = ResidentBytes();  // ever resident while idle
  absl::Time idle_since_ = absl::InfiniteFuture();
  absl::Time next_look_ = absl::InfinitePast();
};

}  // namespace mea
