#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mea {

inline constexpr int64_t kMaxTextFileBytes = 256 << 20;  // the largest tokenizers have 40 MB

// An open descriptor of a regular file, which the caller closes, and its size in bytes.
struct OpenedFile {
  int fd = -1;
  int64_t size = 0;
};
// NOT_FOUND, FAILED_PRECONDITION (a symbolic link that leads nowhere), INVALID_ARGUMENT (not a
// regular file) or PERMISSION_DENIED with the path.
absl::StatusOr<OpenedFile> OpenRegularFile(const std::filesystem::path& file);

// The whole of a small file. Fails as OpenRegularFile does; also INVALID_ARGUMENT if the file is
// too large or a git-lfs pointer (RefusePointer).
absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& file);

// INVALID_ARGUMENT for the pointer that git leaves in place of a large file which git-lfs did not
// fetch.
absl::Status RefusePointer(const std::string& path, std::string_view content);

}  // namespace mea
