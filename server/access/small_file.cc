#include "server/access/small_file.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"

namespace mea {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  const auto refuse = [&](int error) {
    return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot be read"));
  };
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file) return refuse(errno);
  std::string text(static_cast<size_t>(max_bytes) + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return refuse(errno);
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has more than ", max_bytes, " bytes, the most that is read"));
  }
  return text;
}

}  // namespace mea
