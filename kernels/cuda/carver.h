#pragma once

#include <cstdint>

namespace mea::cuda {

// Cuts one allocation into parts, each aligned for every kernel. Run it first without memory, for
// the total size; then in the same order with memory.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}

  // The next part; null in a run for the total size.
  template <typename T = std::byte>
  T* Take(int64_t count) {
    T* const part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kAlignment = 1024;

  std::byte* const memory_;
  int64_t bytes_ = 0;
};

}  // namespace mea::cuda
