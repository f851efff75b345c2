#include "kernels/host_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "kernels/human_bytes.h"

namespace mea {
namespace {

constexpr int64_t kAlignment = 64;
// The size on x86. Weights and caches are read from end to end: with small pages every 4 KB cost
// a walk through the page tables, a tenth of the reading rate.
constexpr int64_t kHugePage = int64_t{2} << 20;

// Zeroed memory in large pages. Null if there is no memory.
std::shared_ptr<void> MapLarge(int64_t bytes, Presence presence) {
  const int64_t mapped = bytes + kHugePage;
  void* const begin =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return nullptr;
  const auto unmap = [mapped, begin](void*) { munmap(begin, mapped); };
  const auto address = reinterpret_cast<uintptr_t>(begin);
  void* const data =
      reinterpret_cast<void*>((address + kHugePage - 1) / kHugePage * kHugePage);  // NOLINT
  std::shared_ptr<void> memory(data, unmap);
  // Only advice: if the kernel ignores it, pages are small.
  madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  // A cache that does not fit fails here, not when it is full.
  // Kernels before 5.14 do not know it.
  if (presence == Presence::kNow && madvise(data, bytes, MADV_POPULATE_WRITE) != 0) {
    if (errno == ENOMEM) return nullptr;
    std::memset(data, 0, bytes);
  }
  return memory;
}

std::shared_ptr<void> AllocateZeroed(int64_t bytes, Presence presence) {
  if (bytes >= kLargeBytes) return MapLarge(bytes, presence);
  void* const data = std::aligned_alloc(kAlignment, bytes);
  if (data == nullptr) return nullptr;
  std::memset(data, 0, bytes);
  return {data, std::free};
}

}  // namespace

absl::StatusOr<Tensor> AllocateHostTensor(std::span<const int64_t> shape, DType dtype,
                                          Presence presence) {
  int64_t bytes = DTypeSize(dtype);
  for (const int64_t extent : shape) {
    MEA_CHECK(extent >= 0);
    if (__builtin_mul_overflow(bytes, extent, &bytes)) bytes = INT64_MAX;
  }
  const bool addressable = bytes < INT64_MAX - 2 * kHugePage;
  const int64_t padded = addressable ? (bytes + kAlignment) / kAlignment * kAlignment : 0;
  std::shared_ptr<void> data = addressable ? AllocateZeroed(padded, presence) : nullptr;
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", HumanBytes(bytes)));
  }
  return Tensor(TensorView::Dense(data.get(), dtype, shape), data);
}

}  // namespace mea
