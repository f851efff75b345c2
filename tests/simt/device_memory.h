#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace mea::simt {

enum class MemoryKind { kDevice, kPinned };

// What cudaMalloc and cudaMallocHost handed out, full of 0xff at first.
class Allocations {
 public:
  void* Allocate(MemoryKind kind, int64_t bytes);
  // False if nothing of that kind starts there.
  bool Free(MemoryKind kind, void* start);

  // Whether all `bytes` bytes lie in one live allocation of that kind.
  bool Contains(MemoryKind kind, const void* address, int64_t bytes) const;

  int64_t count() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t device_bytes() const { return device_bytes_; }

 private:
  struct Allocation {
    MemoryKind kind;
    int64_t bytes;
  };

  std::map<const std::byte*, Allocation> blocks_;  // by start
  int64_t device_bytes_ = 0;
};

}  // namespace mea::simt
