#pragma once

#include <utility>

namespace mea {

// Where a lack of memory may be the fault of what a client asked for, and what was begun can be
// dropped: in its scope and thread operator new throws, as it does by default. Anywhere else `mea`
// ends (server/main.cc).
class MemoryShortageThrows {
 public:
  MemoryShortageThrows() : outer_(std::exchange(throws_, true)) {}
  ~MemoryShortageThrows() { throws_ = outer_; }
  MemoryShortageThrows(const MemoryShortageThrows&) = delete;
  MemoryShortageThrows& operator=(const MemoryShortageThrows&) = delete;

  static bool Here() { return throws_; }

 private:
  static inline thread_local bool throws_ = false;
  const bool outer_;
};

}  // namespace mea
