#include "tests/simt/device_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) (static_cast<void>(start), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) \
  (static_cast<void>(start), static_cast<void>(bytes))
#endif

namespace mea::simt {
namespace {

constexpr int kPoison = 0xff;
constexpr int64_t kAlignment = 256;  // as cudaMalloc
constexpr int64_t kMargin = 256;
constexpr int64_t kArenaBytes = int64_t{64} << 30;  // of addresses of a device
constexpr int64_t kAllArenasBytes = kArenaBytes * kMaxDevices;
// Opening and closing the arena costs time by the page: large ones, where the system has them.
constexpr int64_t kPage = int64_t{2} << 20;

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Of an allocation with its margin.
int64_t Footprint(int64_t bytes) { return RoundUp(bytes, kAlignment) + kMargin; }

void Fill(std::byte* start, int64_t bytes) {
  std::memset(start, kPoison, static_cast<size_t>(bytes));
}

#if !defined(__SANITIZE_ADDRESS__)  // which explains faults in its own way
// For the handler of SIGSEGV, which can ask nobody.
const std::byte* arenas_start = nullptr;

void OnSegmentationFault(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  if (address >= arenas_start && address < arenas_start + kAllArenasBytes) {
    constexpr char kMessage[] =
        "simt: host code touches device memory, or a kernel that of another device or none\n";
    static_cast<void>(!write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1));
  }
  signal(SIGSEGV, SIG_DFL);  // which the access, tried again, meets
}
#endif

}  // namespace

Allocations::Allocations() {
  void* mapping = mmap(nullptr, static_cast<size_t>(kAllArenasBytes + kPage), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MEA_CHECK(mapping != MAP_FAILED);
  mapping_ = static_cast<std::byte*>(mapping);
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(mapping));
  arenas_ = mapping_ + (RoundUp(address, kPage) - address);
  madvise(arenas_, static_cast<size_t>(kAllArenasBytes), MADV_HUGEPAGE);
#if !defined(__SANITIZE_ADDRESS__)
  arenas_start = arenas_;
  struct sigaction action = {};
  action.sa_sigaction = OnSegmentationFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
#endif
}

Allocations::~Allocations() { munmap(mapping_, static_cast<size_t>(kAllArenasBytes + kPage)); }

std::byte* Allocations::Arena(int device) const { return arenas_ + device * kArenaBytes; }

unsigned Allocations::Open(unsigned devices) {
  for (int device = 0; device < kMaxDevices; ++device) {
    const bool is_open = (devices >> device & 1) != 0;
    if (is_open == ((open_ >> device & 1) != 0) || arena_used_[device] == 0) continue;
    MEA_CHECK(mprotect(Arena(device), static_cast<size_t>(arena_used_[device]),
                       is_open ? PROT_READ | PROT_WRITE : PROT_NONE) == 0);
  }
  return std::exchange(open_, devices);
}

// The first gap between allocations of the device that is large enough.
std::byte* Allocations::FindRoom(int64_t bytes, int device) const {
  std::byte* free = Arena(device);
  for (const auto& [start, allocation] : blocks_) {
    if (allocation.kind != MemoryKind::kDevice || allocation.device != device) continue;
    if (start - free >= Footprint(bytes)) return free;
    free = start + Footprint(allocation.bytes);
  }
  return Arena(device) + kArenaBytes - free >= Footprint(bytes) ? free : nullptr;
}

void* Allocations::Allocate(MemoryKind kind, int64_t bytes, int device) {
  std::byte* start = nullptr;
  if (kind == MemoryKind::kDevice) {
    MEA_CHECK(open_ == 0);
    start = FindRoom(bytes, device);
    if (start == nullptr) return nullptr;
    arena_used_[device] =
        std::max(arena_used_[device], RoundUp(start - Arena(device) + Footprint(bytes), kPage));
    const Access access(*this, device);
    ASAN_UNPOISON_MEMORY_REGION(start, static_cast<size_t>(Footprint(bytes)));
    Fill(start, Footprint(bytes));
    ASAN_POISON_MEMORY_REGION(start + bytes, static_cast<size_t>(Footprint(bytes) - bytes));
    device_bytes_[device] += bytes;
  } else {
    void* memory = nullptr;
    MEA_CHECK(posix_memalign(&memory, kAlignment, static_cast<size_t>(bytes)) == 0);
    start = static_cast<std::byte*>(memory);
    Fill(start, bytes);
  }
  blocks_[start] = {kind, bytes, device};
  return start;
}

bool Allocations::Free(MemoryKind kind, void* start) {
  const auto it = blocks_.find(static_cast<std::byte*>(start));
  if (it == blocks_.end() || it->second.kind != kind) return false;
  const auto [_, bytes, device] = it->second;
  blocks_.erase(it);
  last_found_ = blocks_.end();
  if (kind == MemoryKind::kDevice) {
    const Access access(*this, device);
    Fill(static_cast<std::byte*>(start), bytes);
    ASAN_POISON_MEMORY_REGION(start, static_cast<size_t>(bytes));
    device_bytes_[device] -= bytes;
  } else {
    std::free(start);
  }
  return true;
}

Allocations::Blocks::const_iterator Allocations::Find(const void* address, int64_t bytes) const {
  const auto* p = static_cast<const std::byte*>(address);
  const auto holds = [&](Blocks::const_iterator it) {
    return p >= it->first && p + bytes <= it->first + it->second.bytes;
  };
  if (last_found_ != blocks_.end() && holds(last_found_)) return last_found_;
  auto it = blocks_.upper_bound(const_cast<std::byte*>(p));
  if (it == blocks_.begin() || !holds(--it)) return blocks_.end();
  return last_found_ = it;
}

bool Allocations::Contains(MemoryKind kind, const void* address, int64_t bytes) const {
  const auto it = Find(address, bytes);
  return it != blocks_.end() && it->second.kind == kind;
}

bool Allocations::Contains(const void* address, int64_t bytes) const {
  return Find(address, bytes) != blocks_.end();
}

bool Allocations::IsOn(int device, const void* address, int64_t bytes) const {
  const auto it = Find(address, bytes);
  return it != blocks_.end() && it->second.kind == MemoryKind::kDevice &&
         it->second.device == device;
}

const void* Allocations::FindOverrun(int device) {
#if !defined(__SANITIZE_ADDRESS__)  // which sees it happen
  const Access access(*this, device);
  for (const auto& [start, allocation] : blocks_) {
    if (allocation.kind != MemoryKind::kDevice || allocation.device != device) continue;
    const std::byte* margin = start + allocation.bytes;
    const std::byte* end = start + Footprint(allocation.bytes);
    if (!std::all_of(margin, end, [](std::byte b) { return b == std::byte{kPoison}; })) {
      return start;
    }
  }
#endif
  return nullptr;
}

}  // namespace mea::simt
