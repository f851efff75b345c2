#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace mea::simt {

enum class MemoryKind { kDevice, kPinned };

// What cudaMalloc and cudaMallocHost handed out, full of 0xff at first. Device memory lies in an
// arena that host code cannot touch: it is there only while an Access lives. After each allocation
// comes a margin of 0xff.
class Allocations {
 public:
  // Opens device memory to this process, as a kernel or a copy that runs does. They nest.
  class Access {
   public:
    explicit Access(Allocations& memory) : memory_(memory) { memory_.Open(); }
    ~Access() { memory_.Close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    Allocations& memory_;
  };

  Allocations();
  ~Allocations();
  Allocations(const Allocations&) = delete;
  Allocations& operator=(const Allocations&) = delete;

  // Null if the arena has no room.
  void* Allocate(MemoryKind kind, int64_t bytes);
  // False if nothing of that kind starts there.
  bool Free(MemoryKind kind, void* start);

  // Whether all `bytes` bytes lie in one live allocation, of that kind or of either.
  bool Contains(MemoryKind kind, const void* address, int64_t bytes) const;
  bool Contains(const void* address, int64_t bytes) const;

  // The start of an allocation whose margin somebody wrote to; null if there is none.
  const void* FindOverrun();

  int64_t count() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t device_bytes() const { return device_bytes_; }

 private:
  struct Allocation {
    MemoryKind kind;
    int64_t bytes;
  };
  using Blocks = std::map<std::byte*, Allocation>;  // by start

  void Open();
  void Close();
  std::byte* FindRoom(int64_t bytes) const;
  Blocks::const_iterator Find(const void* address, int64_t bytes) const;

  Blocks blocks_;
  mutable Blocks::const_iterator last_found_ = blocks_.end();
  std::byte* mapping_;
  std::byte* arena_;        // in the mapping, aligned
  int64_t arena_used_ = 0;  // bytes from the start to the end of the last margin ever
  int num_accesses_ = 0;
  int64_t device_bytes_ = 0;
};

}  // namespace mea::simt
