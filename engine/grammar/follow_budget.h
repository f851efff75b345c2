#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "engine/grammar/limits.h"

namespace mea::grammar {

// How much of the engine thread's time one sequence may use to follow its grammar, in steps of the
// library's parser. Each call has a share, which suffices for any grammar that is not ambiguous.
// Steps beyond it count against the sequence's total and against what all sequences of the thread
// may use in a second, so many of them together delay nobody. Used by one thread.
class FollowBudget {
 public:
  // Steps that the next call may take.
  int64_t ForOneCall() const { return kFollowSteps + std::min(left_, Thread().left()); }
  void Take(int64_t steps) {
    const int64_t excess = std::max<int64_t>(0, steps - kFollowSteps);
    left_ -= excess;
    Thread().Take(excess);
  }

 private:
  using Clock = std::chrono::steady_clock;

  class OfThread {
   public:
    int64_t left() {
      const Clock::time_point now = Clock::now();
      if (now - filled_ >= std::chrono::seconds(1)) {
        filled_ = now;
        left_ = kMaxThreadExcessSteps;
      }
      return std::max<int64_t>(0, left_);
    }
    void Take(int64_t excess) { left_ -= excess; }

   private:
    int64_t left_ = kMaxThreadExcessSteps;
    Clock::time_point filled_ = Clock::now();
  };
  static OfThread& Thread() {
    static thread_local OfThread of_thread;
    return of_thread;
  }

  int64_t left_ = kMaxExcessSteps;
};

}  // namespace mea::grammar
