#include "tests/simt/shared_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "kernels/check.h"

namespace mea::simt {
namespace {

constexpr int kPoison = 0xff;
constexpr int kMarginFill = kPoison;  // a read beyond the end is NaN as well
constexpr size_t kPage = 4096;

}  // namespace

// [guard page][margin][data][margin up to a page][guard page]
SharedMemory::SharedMemory(int bytes) : bytes_(bytes) {
  const size_t inner = (kMargin + static_cast<size_t>(bytes) + kMargin + kPage - 1) / kPage * kPage;
  mapped_bytes_ = inner + 2 * kPage;
  void* mapping =
      mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MEA_CHECK(mapping != MAP_FAILED);
  mapping_ = static_cast<std::byte*>(mapping);
  MEA_CHECK(mprotect(mapping_ + kPage, inner, PROT_READ | PROT_WRITE) == 0);
  data_ = mapping_ + kPage + kMargin;
}

SharedMemory::~SharedMemory() { munmap(mapping_, mapped_bytes_); }

void SharedMemory::Poison() {
  std::memset(data_ - kMargin, kMarginFill, kMargin);
  std::memset(data_, kPoison, static_cast<size_t>(bytes_));
  std::memset(data_ + bytes_, kMarginFill, kMargin);
}

bool SharedMemory::MarginsIntact() const {
  const auto intact = [](std::byte b) { return b == std::byte{kMarginFill}; };
  return std::all_of(data_ - kMargin, data_, intact) &&
         std::all_of(data_ + bytes_, data_ + bytes_ + kMargin, intact);
}

bool SharedMemory::Contains(const void* address, int64_t bytes) const {
  const auto* p = static_cast<const std::byte*>(address);
  return p >= data_ && bytes >= 0 && p + bytes <= data_ + bytes_;
}

}  // namespace mea::simt
