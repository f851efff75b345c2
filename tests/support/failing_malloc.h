#pragma once

#include <atomic>
#include <cstdint>

namespace mea::testing {

// What a process with failing_malloc (LD_PRELOAD) shares with its test: the file that the
// environment variable below names, mapped by both.
inline constexpr char kFailingMallocVariable[] = "MEA_FAILING_MALLOC";
struct Allocations {
  std::atomic<int64_t> count;     // that were asked for so far
  std::atomic<int64_t> fails_at;  // this one gets nothing; 0: all get what they ask for
  std::atomic<int64_t> largest;   // bytes
};

}  // namespace mea::testing
