#include "engine/convert/fingerprint.h"

#include <fstream>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/storage/file.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

// FNV-1a, 64 bits.
class Hash {
 public:
  void Add(std::string_view bytes) {
    for (const char c : bytes) {
      state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
  }
  std::string Hex() const { return absl::StrFormat("%016x", state_); }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

}  // namespace

absl::StatusOr<std::string> CheckpointFingerprint(const Checkpoint& checkpoint) {
  Hash hash;
  MEA_ASSIGN_OR_RETURN(const std::string config, ReadTextFile(checkpoint.dir / "config.json"));
  hash.Add(config);
  std::set<std::string> files;
  for (const auto& [name, stored] : checkpoint.tensors.tensors()) {
    hash.Add(absl::StrCat(name, " ", static_cast<int>(stored.dtype), " ", ShapeString(stored.shape),
                          " ", stored.offset, "\n"));
    files.insert(stored.file->path());
  }
  for (const std::string& file : files) {
    std::error_code error;
    const auto time = std::filesystem::last_write_time(file, error);
    const auto size = std::filesystem::file_size(file, error);
    if (error) return absl::UnavailableError(absl::StrCat(file, ": ", error.message()));
    hash.Add(absl::StrCat(std::filesystem::path(file).filename().string(), " ", size, " ",
                          time.time_since_epoch().count(), "\n"));
  }
  return hash.Hex();
}

absl::StatusOr<std::string> FileFingerprint(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(file.string(), ": cannot be read"));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  Hash hash;
  hash.Add(text);
  return hash.Hex();
}

}  // namespace mea::convert
