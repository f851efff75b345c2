#include "engine/checkpoint/hub_cache.h"

#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/storage/file.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRepository = "models--";

}  // namespace

absl::StatusOr<fs::path> SnapshotOf(const fs::path& dir) {
  const fs::path snapshots = dir / "snapshots";
  std::error_code error;
  if (!fs::is_directory(snapshots, error) || fs::exists(dir / "config.json", error)) return dir;
  if (const absl::StatusOr<std::string> main = ReadTextFile(dir / "refs" / "main"); main.ok()) {
    const fs::path named = snapshots / std::string(absl::StripAsciiWhitespace(*main));
    if (fs::is_directory(named, error)) return named;
  }
  std::vector<fs::path> found;
  for (auto entry = fs::directory_iterator(snapshots, error); entry != fs::directory_iterator();
       entry.increment(error)) {
    if (entry->is_directory(error)) found.push_back(entry->path());
  }
  if (found.size() == 1) return found.front();
  return absl::InvalidArgumentError(
      absl::StrCat(dir.string(), ": expected one snapshot, or refs/main to name it, found ",
                   found.size(), " in snapshots/"));
}

std::string CheckpointName(const fs::path& dir) {
  std::error_code error;
  const fs::path real = fs::canonical(dir, error);
  if (error) return dir.string();
  fs::path typed = dir.filename().empty() ? dir.parent_path() : dir;
  if (typed.filename() == "." || typed.filename() == ".." || typed.filename().empty()) typed = real;
  const fs::path repository = real.parent_path().parent_path().filename();
  if (typed.filename() == real.filename() && real.parent_path().filename() == "snapshots" &&
      repository.string().starts_with(kRepository)) {
    return absl::StrReplaceAll(repository.string().substr(kRepository.size()), {{"--", "/"}});
  }
  return typed.filename().string();
}

}  // namespace mea
