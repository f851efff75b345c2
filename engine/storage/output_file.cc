#include "engine/storage/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {

absl::Status WriteError(const std::filesystem::path& file, int error) {
  const absl::StatusCode code =
      error == ENOSPC ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable;
  return {code, absl::StrCat("cannot write ", file.string(), ": ", std::strerror(error))};
}

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return WriteError(path, errno);
  return std::unique_ptr<OutputFile>(new OutputFile(path, fd));
}

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::CreateAlone(
    const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (fd < 0) return WriteError(path, errno);
  std::unique_ptr<OutputFile> file(new OutputFile(path, fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return nullptr;
    return WriteError(path, errno);
  }
  // The last owner of the lock may have renamed the file after we opened it.
  struct stat opened {};
  struct stat there {};
  if (fstat(fd, &opened) != 0) return WriteError(path, errno);
  if (lstat(path.c_str(), &there) != 0 || opened.st_ino != there.st_ino) return nullptr;
  if (ftruncate(fd, 0) != 0) return WriteError(path, errno);
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status OutputFile::Append(std::string_view bytes) {
  constexpr size_t kMost = 64 << 20;  // of one call
  while (!bytes.empty()) {
    const ssize_t count = write(fd_, bytes.data(), std::min(bytes.size(), kMost));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return WriteError(path_, errno);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Sync() {
  return fsync(fd_) == 0 ? absl::OkStatus() : WriteError(path_, errno);
}

absl::Status OutputFile::Close() {
  const int fd = std::exchange(fd_, -1);
  const bool synced = fsync(fd) == 0;
  const int error = errno;
  if (close(fd) != 0 || !synced) return WriteError(path_, synced ? errno : error);
  return absl::OkStatus();
}

absl::Status WriteFile(const std::filesystem::path& file, std::string_view text) {
  MEA_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> out, OutputFile::Create(file));
  MEA_RETURN_IF_ERROR(out->Append(text));
  return out->Close();
}

absl::Status ReplaceFile(const std::filesystem::path& file, std::string_view text) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_type type = fs::status(file, error).type();
  const bool is_link = fs::is_symlink(file, error);
  if (is_link || (type != fs::file_type::regular && type != fs::file_type::not_found)) {
    absl::StatusOr<std::unique_ptr<OutputFile>> out = OutputFile::Create(file);
    return out.ok() ? (*out)->Append(text) : out.status();
  }
  const fs::path fresh = file.string() + ".new";
  absl::Status status = WriteFile(fresh, text);
  if (status.ok() && rename(fresh.c_str(), file.c_str()) != 0) status = WriteError(file, errno);
  if (!status.ok()) {
    fs::remove(fresh, error);
    return status;
  }
  return SyncDirectory(file.has_parent_path() ? file.parent_path() : ".");
}

absl::Status SyncDirectory(const std::filesystem::path& dir) {
  const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return WriteError(dir, errno);
  const bool synced = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  return synced ? absl::OkStatus() : WriteError(dir, error);
}

}  // namespace mea
