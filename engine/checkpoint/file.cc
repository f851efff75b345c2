#include "engine/checkpoint/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace mea {
namespace {

absl::Status ErrnoError(int error, const std::string& path, const char* action) {
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot ", action));
}

// An open descriptor of a regular file and its size in bytes.
struct OpenedFile {
  int fd = -1;
  int64_t size = 0;
};

absl::StatusOr<OpenedFile> OpenRegularFile(const std::string& path) {
  // A named pipe would block until somebody writes.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ErrnoError(errno, path, "open");
  struct stat info {};
  const int result = fstat(fd, &info);
  if (result == 0 && S_ISREG(info.st_mode)) return OpenedFile{fd, info.st_size};
  const int error = errno;
  close(fd);
  if (result != 0) return ErrnoError(error, path, "stat");
  return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file"));
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& file) {
  const std::string path = file.string();
  const absl::StatusOr<OpenedFile> opened = OpenRegularFile(path);
  if (!opened.ok()) return opened.status();
  const absl::Cleanup close_file = [fd = opened->fd] { close(fd); };
  if (opened->size > kMaxTextFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected at most ", kMaxTextFileBytes,
                                                   " bytes, found ", opened->size));
  }
  std::string text(opened->size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = read(opened->fd, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, path, "read");
    if (count == 0) break;  // truncated meanwhile
    done += static_cast<size_t>(count);
  }
  text.resize(done);
  return text;
}

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(
    const std::filesystem::path& file) {
  const std::string path = file.string();
  const absl::StatusOr<OpenedFile> opened = OpenRegularFile(path);
  if (!opened.ok()) return opened.status();
  const absl::Cleanup close_file = [fd = opened->fd] { close(fd); };
  void* data = nullptr;
  if (opened->size > 0) {  // an empty mapping is an error to mmap
    data = mmap(nullptr, opened->size, PROT_READ, MAP_SHARED, opened->fd, 0);
    if (data == MAP_FAILED) return ErrnoError(errno, path, "map");
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const char*>(data), opened->size));
}

MappedFile::~MappedFile() {
  if (size_ == 0) return;
  UnlistMappedFile(data_);
  munmap(const_cast<char*>(data_), size_);
}

void MappedFile::Prefault(int64_t first, int64_t count) const {
  MEA_CHECK(first >= 0 && count >= 0 && first <= size_ - count);
  if (count == 0) return;
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  const int64_t begin = first / page_bytes * page_bytes;
  const int64_t bytes = first + count - begin;
  char* address = const_cast<char*>(data_) + begin;
  madvise(address, bytes, MADV_WILLNEED);  // starts reading the whole range at once
#ifdef MADV_POPULATE_READ                  // Linux 5.14: waits for it and maps the pages
  if (madvise(address, bytes, MADV_POPULATE_READ) == 0) return;
#endif
  for (int64_t i = 0; i < bytes; i += page_bytes) {
    [[maybe_unused]] const volatile char touched = address[i];
  }
}

}  // namespace mea
