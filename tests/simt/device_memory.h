#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

namespace mea::simt {

enum class MemoryKind { kDevice, kPinned };

inline constexpr int kMaxDevices = 8;

// What cudaMalloc and cudaMallocHost handed out, full of 0xff at first. Device memory lies in
// arenas, one for each device, that host code cannot touch: they are there only while an Access
// lives. After each allocation comes a margin of 0xff.
class Allocations {
 public:
  // Opens the memory of one device, and no other's, to this process, as a kernel that runs does; or
  // of all, as a copy does. They nest.
  class Access {
   public:
    static constexpr int kAll = -1;
    Access(Allocations& memory, int device)
        : memory_(memory),
          before_(memory.Open(device == kAll ? (1u << kMaxDevices) - 1 : 1u << device)) {}
    ~Access() { memory_.Open(before_); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    Allocations& memory_;
    const unsigned before_;
  };

  Allocations();
  ~Allocations();
  Allocations(const Allocations&) = delete;
  Allocations& operator=(const Allocations&) = delete;

  // Null if the arena has no room. Pinned memory is no device's.
  void* Allocate(MemoryKind kind, int64_t bytes, int device = 0);
  // False if nothing of that kind starts there.
  bool Free(MemoryKind kind, void* start);

  // Whether all `bytes` bytes lie in one live allocation, of that kind or of either.
  bool Contains(MemoryKind kind, const void* address, int64_t bytes) const;
  bool Contains(const void* address, int64_t bytes) const;
  // Likewise of that device.
  bool IsOn(int device, const void* address, int64_t bytes) const;

  // The start of an allocation of the device whose margin somebody wrote to; null if there is none.
  const void* FindOverrun(int device);

  int64_t count() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t device_bytes(int device) const { return device_bytes_[device]; }

 private:
  struct Allocation {
    MemoryKind kind;
    int64_t bytes;
    int device;
  };
  using Blocks = std::map<std::byte*, Allocation>;  // by start

  // The devices whose memory is open from now on, as bits; returns those before.
  unsigned Open(unsigned devices);
  std::byte* Arena(int device) const;
  std::byte* FindRoom(int64_t bytes, int device) const;
  Blocks::const_iterator Find(const void* address, int64_t bytes) const;

  Blocks blocks_;
  mutable Blocks::const_iterator last_found_ = blocks_.end();
  std::byte* mapping_;
  std::byte* arenas_;  // in the mapping, aligned
  // Of each device: bytes from the start of its arena to the end of the last margin ever.
  std::array<int64_t, kMaxDevices> arena_used_{};
  unsigned open_ = 0;  // bits of devices
  std::array<int64_t, kMaxDevices> device_bytes_{};
};

}  // namespace mea::simt
