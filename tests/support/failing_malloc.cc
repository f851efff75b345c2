// Before the C library's allocator: gives nothing once, when its test says so.
#include "tests/support/failing_malloc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>

extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
}

namespace {

mea::testing::Allocations* allocations = nullptr;

__attribute__((constructor)) void MapAllocations() {
  const char* path = std::getenv(mea::testing::kFailingMallocVariable);
  if (path == nullptr) return;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  void* data = mmap(nullptr, sizeof(*allocations), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (data != MAP_FAILED) allocations = static_cast<mea::testing::Allocations*>(data);
}

bool Fails(size_t bytes) {
  if (allocations == nullptr) return false;
  const auto wanted = static_cast<int64_t>(bytes);
  if (wanted > allocations->largest) allocations->largest = wanted;
  if (++allocations->count != allocations->fails_at) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

#define MEA_EXPORT __attribute__((visibility("default")))

extern "C" {

MEA_EXPORT void* malloc(size_t bytes) { return Fails(bytes) ? nullptr : __libc_malloc(bytes); }
MEA_EXPORT void* calloc(size_t count, size_t bytes) {
  return Fails(count * bytes) ? nullptr : __libc_calloc(count, bytes);
}
MEA_EXPORT void* realloc(void* block, size_t bytes) {
  return Fails(bytes) ? nullptr : __libc_realloc(block, bytes);
}
MEA_EXPORT void* memalign(size_t alignment, size_t bytes) {
  return Fails(bytes) ? nullptr : __libc_memalign(alignment, bytes);
}
MEA_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) {
  return memalign(alignment, bytes);
}
MEA_EXPORT int posix_memalign(void** block, size_t alignment, size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block == nullptr ? ENOMEM : 0;
}
}
