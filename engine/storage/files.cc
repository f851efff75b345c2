#include "engine/storage/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

absl::Status ErrnoError(int error, const std::string& path, const char* action) {
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot ", action));
}

}  // namespace

absl::StatusOr<OpenedFile> OpenRegularFile(const std::filesystem::path& file) {
  const std::string path = file.string();
  // A named pipe would block until somebody writes.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    std::error_code ignored;
    const std::filesystem::path target = std::filesystem::read_symlink(file, ignored);
    if (error != ENOENT || target.empty()) return ErrnoError(error, path, "open");
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is a symbolic link to ", target.string(), ", which is not there"));
  }
  struct stat info {};
  const int result = fstat(fd, &info);
  if (result == 0 && S_ISREG(info.st_mode)) return OpenedFile{fd, info.st_size};
  const int error = errno;
  close(fd);
  if (result != 0) return ErrnoError(error, path, "stat");
  return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file"));
}

absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& file) {
  const std::string path = file.string();
  MEA_ASSIGN_OR_RETURN(const OpenedFile opened, OpenRegularFile(file));
  const absl::Cleanup close_file = [fd = opened.fd] { close(fd); };
  if (opened.size > kMaxTextFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected at most ", kMaxTextFileBytes,
                                                   " bytes, found ", opened.size));
  }
  std::string text(opened.size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = read(opened.fd, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, path, "read");
    if (count == 0) break;  // truncated meanwhile
    done += static_cast<size_t>(count);
  }
  text.resize(done);
  MEA_RETURN_IF_ERROR(RefusePointer(path, text));
  return text;
}

absl::Status RefusePointer(const std::string& path, std::string_view content) {
  if (!content.starts_with("version https://git-lfs.github.com/spec/")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": is a pointer of git-lfs, not the file itself; git lfs pull fetches it"));
}

}  // namespace mea
