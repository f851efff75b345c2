#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// cp.async: each thread's 16-byte copies under way, in groups. The source is read at once or when
// the copy lands: the dice decide for each. One unit per block.
class Copies : public Unit {
 public:
  static constexpr int kId = 0;

  explicit Copies(Block& block) : block_(block), threads_(block.num_threads()) {}

  void Issue(void* shared, const void* global, bool valid, const Where& where);
  void Commit();
  // Lands the running thread's groups but for the `groups` committed last.
  void Wait(int groups);

 private:
  struct Copy {
    void* shared;
    const void* global;  // null: `early` has the bytes
    std::array<std::byte, 16> early;
  };
  struct Thread {
    std::vector<Copy> copies;        // oldest first
    std::vector<size_t> group_ends;  // of committed groups, in `copies`
  };

  Thread& Mine() { return threads_[static_cast<size_t>(block_.thread())]; }

  Block& block_;
  std::vector<Thread> threads_;
};

}  // namespace mea::simt
