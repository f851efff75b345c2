#include "engine/storage/file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace mea {
absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(
    const std::filesystem::path& file) {
  const std::string path = file.string();
  MEA_ASSIGN_OR_RETURN(const OpenedFile opened, OpenRegularFile(file));
  const absl::Cleanup close_file = [fd = opened.fd] { close(fd); };
  void* data = nullptr;
  if (opened.size > 0) {  // an empty mapping is an error to mmap
    data = mmap(nullptr, opened.size, PROT_READ, MAP_SHARED, opened.fd, 0);
    if (data == MAP_FAILED) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot map"));
    }
  }
  std::shared_ptr<const MappedFile> mapped(
      new MappedFile(path, static_cast<const char*>(data), opened.size));
  MEA_RETURN_IF_ERROR(RefusePointer(path, {mapped->data(), static_cast<size_t>(mapped->size())}));
  return mapped;
}

MappedFile::~MappedFile() {
  if (size_ == 0) return;
  UnlistMappedFile(data_);
  munmap(const_cast<char*>(data_), size_);
}

void MappedFile::ReadAhead(int64_t first, int64_t count) const {
  MEA_CHECK(first >= 0 && count >= 0 && first <= size_);
  const int64_t begin = first / sysconf(_SC_PAGESIZE) * sysconf(_SC_PAGESIZE);
  const int64_t end = first + std::min(count, size_ - first);
  if (end > begin) madvise(const_cast<char*>(data_) + begin, end - begin, MADV_WILLNEED);
}

void MappedFile::Prefault(int64_t first, int64_t count) const {
  MEA_CHECK(first >= 0 && count >= 0 && first <= size_ - count);
  if (count == 0) return;
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  const int64_t begin = first / page_bytes * page_bytes;
  const int64_t bytes = first + count - begin;
  char* address = const_cast<char*>(data_) + begin;
#ifdef MADV_POPULATE_READ  // Linux 5.14: waits for it and maps the pages
  if (madvise(address, bytes, MADV_POPULATE_READ) == 0) return;
#endif
  for (int64_t i = 0; i < bytes; i += page_bytes) {
    [[maybe_unused]] const volatile char touched = address[i];
  }
}

}  // namespace mea
