#pragma once

#include <cstddef>
#include <cstdint>

namespace mea::simt {

// The dynamic shared memory of a block: 1024-byte aligned, full of 0xff (NaN in every float format)
// when a block starts, with a watched margin on either side.
class SharedMemory {
 public:
  explicit SharedMemory(int bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void Poison();
  // Whether the margins are as Poison left them.
  bool MarginsIntact() const;

  std::byte* data() const { return data_; }
  int bytes() const { return bytes_; }
  bool Contains(const void* address, int64_t bytes) const;

  // The address PTX would see: the first KiB belongs to the system.
  uint32_t Address(const void* pointer) const {
    return kBase + static_cast<uint32_t>(static_cast<const std::byte*>(pointer) - data_);
  }
  std::byte* At(uint32_t address) const { return data_ + (address - kBase); }

 private:
  static constexpr uint32_t kBase = 1024;
  static constexpr int kMargin = 1024;

  int bytes_;
  size_t mapped_bytes_;
  std::byte* mapping_;
  std::byte* data_;
};

}  // namespace mea::simt
