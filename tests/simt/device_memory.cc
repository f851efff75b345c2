#include "tests/simt/device_memory.h"

#include <cstdlib>
#include <cstring>

#include "kernels/check.h"

namespace mea::simt {
namespace {

constexpr int64_t kAlignment = 256;  // as cudaMalloc

}  // namespace

void* Allocations::Allocate(MemoryKind kind, int64_t bytes) {
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* start = nullptr;
  MEA_CHECK(posix_memalign(&start, kAlignment, static_cast<size_t>(rounded)) == 0);
  std::memset(start, 0xff, static_cast<size_t>(rounded));
  blocks_[static_cast<const std::byte*>(start)] = {kind, bytes};
  if (kind == MemoryKind::kDevice) device_bytes_ += bytes;
  return start;
}

bool Allocations::Free(MemoryKind kind, void* start) {
  const auto it = blocks_.find(static_cast<const std::byte*>(start));
  if (it == blocks_.end() || it->second.kind != kind) return false;
  if (kind == MemoryKind::kDevice) device_bytes_ -= it->second.bytes;
  blocks_.erase(it);
  std::free(start);
  return true;
}

bool Allocations::Contains(MemoryKind kind, const void* address, int64_t bytes) const {
  const auto* p = static_cast<const std::byte*>(address);
  auto it = blocks_.upper_bound(p);
  if (it == blocks_.begin()) return false;
  --it;
  return it->second.kind == kind && p + bytes <= it->first + it->second.bytes;
}

}  // namespace mea::simt
