#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/check.h"

namespace mea::cpu {

// Working memory of one thread. Grows to the largest request and keeps it, so steps of a known size
// allocate nothing. Contents do not survive the next Ensure.
class Scratch {
 public:
  // At least `floats` floats, aligned to a cache line.
  float* Ensure(int64_t floats) {
    if (floats > capacity_) {
      // By half each time: a sequence that grows token by token seldom reallocates.
      capacity_ = (std::max(floats, capacity_ + capacity_ / 2) + 15) / 16 * 16;
      memory_.reset();
      memory_.reset(
          static_cast<float*>(::operator new(capacity_ * sizeof(float), kCacheLine, std::nothrow)));
      MEA_CHECK(memory_ != nullptr);
    }
    return memory_.get();
  }
  // The memory of the last Ensure.
  float* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kCacheLine); }
  };
  static constexpr std::align_val_t kCacheLine{64};
  std::unique_ptr<float, Free> memory_;
  int64_t capacity_ = 0;
};

}  // namespace mea::cpu
