#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace mea {

// A new file, written from front to back. Close flushes it to the disk; without Close the file is
// incomplete.
class OutputFile {
 public:
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // The same where other processes may be about to write `path`, too: null if one of them is just
  // doing so. What one has left unfinished is overwritten.
  static absl::StatusOr<std::unique_ptr<OutputFile>> CreateAlone(const std::filesystem::path& path);

  absl::Status Append(std::string_view bytes);
  absl::Status Sync();  // to the disk
  absl::Status Close();

 private:
  OutputFile(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::filesystem::path path_;
  int fd_;
};

// `text` in a new file, on the disk when it returns.
absl::Status WriteFile(const std::filesystem::path& file, std::string_view text);
// The same beside it, then in its place: whole, or as before. What is no regular file (/dev/stdout)
// is written as it is.
absl::Status ReplaceFile(const std::filesystem::path& file, std::string_view text);
// The entries of a directory, on the disk when it returns.
absl::Status SyncDirectory(const std::filesystem::path& dir);

// "cannot write FILE: No space left on device"
absl::Status WriteError(const std::filesystem::path& file, int error);

}  // namespace mea
