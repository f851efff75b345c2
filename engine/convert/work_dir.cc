#include "engine/convert/work_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/convert/output.h"
#include "engine/storage/file.h"
#include "engine/storage/output_file.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

fs::path PartialOf(const fs::path& out) { return out.string() + ".partial"; }

std::optional<Json> ReadJson(const fs::path& file) {
  const absl::StatusOr<std::string> text = ReadTextFile(file);
  if (!text.ok()) return std::nullopt;
  Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

// Which field tells two manifests apart.
absl::Status Differing(const fs::path& dir, const Json& found, const Json& wanted) {
  for (const auto& [name, value] : wanted.items()) {
    if (found.contains(name) && found[name] == value) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(dir.string(), " belongs to another conversion: ", name, " is ",
                     found.contains(name) ? found[name].dump() : "absent", " there, ", value.dump(),
                     " here; remove it, or choose another output"));
  }
  return absl::OkStatus();
}

// Matrices in their memory format: only the machine that wrote them can read them.
constexpr char kMagic[8] = {'m', 'e', 'a', 's', 'o', 'l', 'v', '1'};

constexpr FloatMatrix HealedWeights::*kHealed[] = {
    &HealedWeights::q,    &HealedWeights::k,  &HealedWeights::v,   &HealedWeights::o,
    &HealedWeights::gate, &HealedWeights::up, &HealedWeights::down};

class Packer {
 public:
  template <typename T>
  void Add(const MatrixOf<T>& m) {
    const int64_t extents[] = {m.rows, m.cols};
    bytes_.append(reinterpret_cast<const char*>(extents), sizeof(extents));
    bytes_.append(reinterpret_cast<const char*>(m.values.data()), m.values.size() * sizeof(T));
  }
  template <typename T>
  void Add(const std::vector<MatrixOf<T>>& all) {
    const int64_t count = std::ssize(all);
    bytes_.append(reinterpret_cast<const char*>(&count), sizeof(count));
    for (const MatrixOf<T>& m : all) Add(m);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_{kMagic, sizeof(kMagic)};
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : bytes_(bytes) {
    char magic[sizeof(kMagic)] = {};
    Take(magic, sizeof(magic));
    ok_ = ok_ && std::memcmp(magic, kMagic, sizeof(magic)) == 0;
  }
  template <typename T>
  void Read(MatrixOf<T>& m) {
    int64_t extents[2] = {};
    Take(extents, sizeof(extents));
    constexpr int64_t kMost = int64_t{1} << 31;
    ok_ = ok_ && extents[0] >= 0 && extents[0] < kMost && extents[1] >= 0 && extents[1] < kMost &&
          extents[0] * extents[1] <= std::ssize(bytes_) / static_cast<int64_t>(sizeof(T));
    if (!ok_) return;
    m = MatrixOf<T>(extents[0], extents[1]);
    Take(m.values.data(), m.values.size() * sizeof(T));
  }
  template <typename T>
  void Read(std::vector<MatrixOf<T>>& all) {
    int64_t count = 0;
    Take(&count, sizeof(count));
    ok_ = ok_ && count >= 0 && count <= std::ssize(bytes_);
    for (int64_t i = 0; ok_ && i < count; ++i) Read(all.emplace_back());
  }
  bool whole() const { return ok_ && bytes_.empty(); }

 private:
  void Take(void* to, size_t count) {
    ok_ = ok_ && bytes_.size() >= count;
    if (!ok_) return;
    std::memcpy(to, bytes_.data(), count);
    bytes_.remove_prefix(count);
  }
  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace

fs::path WorkDir::dir() const { return PartialOf(out_); }

absl::StatusOr<std::unique_ptr<WorkDir>> WorkDir::Open(const fs::path& out,
                                                       const std::string& manifest) {
  std::error_code error;
  if (fs::symlink_status(out, error).type() != fs::file_type::not_found) {
    return absl::AlreadyExistsError(absl::StrCat(out.string(), " is there already"));
  }
  const fs::path dir = PartialOf(out);
  fs::create_directories(dir, error);
  if (error) return WriteError(dir, error.value());
  const int lock = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0) return WriteError(dir, errno);
  std::unique_ptr<WorkDir> work(new WorkDir(out, lock));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(dir.string(), " is in use by another process"));
  }
  const Json wanted = Json::parse(manifest);
  fs::remove(dir / "manifest.json.new", error);  // left by a run that was killed at its start
  const fs::path file = dir / "manifest.json";
  if (const std::optional<Json> found = ReadJson(file)) {
    MEA_RETURN_IF_ERROR(Differing(dir, *found, wanted));
  } else if (!fs::is_empty(dir, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(dir.string(), " is not of a conversion: it has no manifest.json; remove it"));
  } else {
    MEA_RETURN_IF_ERROR(ReplaceFile(file, wanted.dump(2) + "\n"));
  }
  if (const std::optional<Json> measured = ReadJson(dir / "measured.json")) {
    for (const auto& [name, value] : measured->items()) {
      if (value.is_number()) work->measured_.emplace_back(name, value.get<double>());
    }
  }
  return work;
}

WorkDir::~WorkDir() { close(lock_); }

fs::path WorkDir::SolvedFile(int layer, const char* kind, int heads) const {
  return dir() / absl::StrCat("layer-", layer, ".", kind, "-", heads, ".solved");
}

std::optional<KeyComposition> WorkDir::LoadKeys(int layer, int heads) const {
  const auto file = MappedFile::Open(SolvedFile(layer, "keys", heads));
  if (!file.ok()) return std::nullopt;
  Unpacker in({(*file)->data(), static_cast<size_t>((*file)->size())});
  KeyComposition keys;
  in.Read(keys.mix);
  in.Read(keys.combine);
  in.Read(keys.rotation);
  if (!in.whole() || keys.components() != heads) return std::nullopt;
  return keys;
}

std::optional<ValueComposition> WorkDir::LoadValues(int layer, int heads) const {
  const auto file = MappedFile::Open(SolvedFile(layer, "values", heads));
  if (!file.ok()) return std::nullopt;
  Unpacker in({(*file)->data(), static_cast<size_t>((*file)->size())});
  ValueComposition values;
  in.Read(values.mix);
  in.Read(values.combine);
  in.Read(values.basis);
  if (!in.whole() || values.components() != heads) return std::nullopt;
  return values;
}

absl::Status WorkDir::Save(int layer, const KeyComposition& keys) const {
  Packer out;
  out.Add(keys.mix);
  out.Add(keys.combine);
  out.Add(keys.rotation);
  return ReplaceFile(SolvedFile(layer, "keys", keys.components()), out.bytes());
}

absl::Status WorkDir::Save(int layer, const ValueComposition& values) const {
  Packer out;
  out.Add(values.mix);
  out.Add(values.combine);
  out.Add(values.basis);
  return ReplaceFile(SolvedFile(layer, "values", values.components()), out.bytes());
}

fs::path WorkDir::HealedFile(int layer) const {
  return dir() / absl::StrCat("layer-", layer, ".healed");
}

std::optional<HealedWeights> WorkDir::LoadHealed(int layer) const {
  const auto file = MappedFile::Open(HealedFile(layer));
  if (!file.ok()) return std::nullopt;
  Unpacker in({(*file)->data(), static_cast<size_t>((*file)->size())});
  HealedWeights healed;
  for (FloatMatrix HealedWeights::*matrix : kHealed) in.Read(healed.*matrix);
  if (!in.whole()) return std::nullopt;
  return healed;
}

absl::Status WorkDir::Save(int layer, const HealedWeights& healed) const {
  Packer out;
  for (FloatMatrix HealedWeights::*matrix : kHealed) out.Add(healed.*matrix);
  return ReplaceFile(HealedFile(layer), out.bytes());
}

std::optional<double> WorkDir::Measured(const std::string& name) const {
  for (const auto& [known, value] : measured_) {
    if (known == name) return value;
  }
  return std::nullopt;
}

absl::Status WorkDir::SaveMeasured(const std::string& name, double value) {
  measured_.emplace_back(name, value);
  Json json = Json::object();
  for (const auto& [known, number] : measured_) json[known] = number;
  return ReplaceFile(dir() / "measured.json", json.dump(1) + "\n");
}

absl::StatusOr<fs::path> WorkDir::NewCheckpointDir() const {
  const fs::path checkpoint = dir() / "checkpoint";
  std::error_code error;
  fs::remove_all(checkpoint, error);
  if (!error) fs::create_directory(checkpoint, error);
  if (error) return WriteError(checkpoint, error.value());
  return checkpoint;
}

absl::Status WorkDir::Publish() {
  // A rename over an empty directory would succeed, but a directory that appeared meanwhile belongs
  // to somebody else.
  if (renameat2(AT_FDCWD, (dir() / "checkpoint").c_str(), AT_FDCWD, out_.c_str(),
                RENAME_NOREPLACE) != 0) {
    return WriteError(out_, errno);
  }
  const fs::path parent = out_.parent_path().empty() ? "." : out_.parent_path();
  absl::Status status = SyncDirectory(parent);
  Remove();
  return status;
}

void WorkDir::Remove() {
  std::error_code ignored;
  fs::remove_all(dir(), ignored);
}

}  // namespace mea::convert
