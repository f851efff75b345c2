#include "server/memory_trim.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace mea {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);
constexpr absl::Duration kTrimEvery = absl::Seconds(5);  // at most: a burst may still go on
constexpr absl::Duration kIdleFor = absl::Seconds(2);
constexpr int64_t kWorthBytes = 32 << 20;  // trimming visits all free memory

}  // namespace

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0;
  int64_t resident_pages = 0;
  return statm >> pages >> resident_pages ? resident_pages * sysconf(_SC_PAGESIZE) : 0;
}

void MemoryTrim::Look(bool idle, absl::Time now) {
  idle_since_ = idle ? std::min(idle_since_, now) : absl::InfiniteFuture();
  if (now < next_look_ || now - idle_since_ < kIdleFor) return;
  next_look_ = now + kLookEvery;
  const int64_t resident_bytes = ResidentBytes();
  least_bytes_ = std::min(least_bytes_, resident_bytes);
  if (resident_bytes - least_bytes_ < kWorthBytes) return;
  malloc_trim(0);
  next_look_ = now + kTrimEvery;
}

}  // namespace mea
