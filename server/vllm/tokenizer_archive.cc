#include "server/vllm/tokenizer_archive.h"

#include <zlib.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/storage/files.h"
#include "server/access/api_key.h"

namespace mea::vllm_engine {
namespace {

constexpr char kChatTemplate[] = "chat_template.jinja";
constexpr std::array<const char*, 9> kFiles = {
    "tokenizer.json", "tokenizer_config.json",  "special_tokens_map.json",
    "config.json",    "generation_config.json", "vocab.json",
    "merges.txt",     "tokenizer.model",        "chat_template.json"};
static_assert(kFiles.size() * kMaxTextFileBytes < (int64_t{1} << 32));  // a ZIP archive's offsets

// A ZIP archive of files as they are: what reads it once gains nothing by smaller ones.
class ZipWriter {
 public:
  void Add(std::string_view name, std::string_view content) {
    const auto offset = static_cast<uint32_t>(bytes_.size());
    const auto size = static_cast<uint32_t>(content.size());
    const auto* data = reinterpret_cast<const unsigned char*>(content.data());
    std::string description;  // the same in both places
    Put16(kVersion, description);
    Put16(0, description);  // flags
    Put16(0, description);  // stored
    Put16(0, description);  // time
    Put16(kDate, description);
    Put32(static_cast<uint32_t>(crc32(0, data, size)), description);
    Put32(size, description);
    Put32(size, description);
    Put16(static_cast<uint16_t>(name.size()), description);
    Put16(0, description);  // extra field
    Put32(0x04034b50, bytes_);
    bytes_ += description;
    bytes_ += name;
    bytes_ += content;

    Put32(0x02014b50, directory_);
    Put16(kVersion, directory_);
    directory_ += description;
    Put16(0, directory_);  // comment
    Put16(0, directory_);  // disk
    Put16(0, directory_);  // internal attributes
    Put32(0, directory_);  // external ones
    Put32(offset, directory_);
    directory_ += name;
    ++num_files_;
  }

  std::string Finish() {
    const auto offset = static_cast<uint32_t>(bytes_.size());
    bytes_ += directory_;
    Put32(0x06054b50, bytes_);
    Put16(0, bytes_);  // disks
    Put16(0, bytes_);
    Put16(num_files_, bytes_);
    Put16(num_files_, bytes_);
    Put32(static_cast<uint32_t>(directory_.size()), bytes_);
    Put32(offset, bytes_);
    Put16(0, bytes_);  // comment
    return std::move(bytes_);
  }

 private:
  static constexpr uint16_t kVersion = 20;
  static constexpr uint16_t kDate = (1 << 5) | 1;  // 1980-01-01, the first there is

  static void Put16(uint16_t value, std::string& to) {
    to += static_cast<char>(value & 0xff);
    to += static_cast<char>(value >> 8);
  }
  static void Put32(uint32_t value, std::string& to) {
    Put16(static_cast<uint16_t>(value & 0xffff), to);
    Put16(static_cast<uint16_t>(value >> 16), to);
  }

  std::string bytes_;
  std::string directory_;
  uint16_t num_files_ = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const TokenizerZip>> TokenizerArchive::Get() {
  absl::MutexLock lock(&mu_);
  if (auto last = last_.lock()) return last;
  ZipWriter zip;
  for (const char* name : kFiles) {
    const absl::StatusOr<std::string> content =
        ReadTextFile(std::filesystem::path(model_dir_) / name);
    if (absl::IsNotFound(content.status())) continue;
    if (!content.ok()) return absl::UnavailableError(absl::StrCat(name, " cannot be read"));
    zip.Add(name, *content);
  }
  if (!chat_template_.empty()) zip.Add(kChatTemplate, chat_template_);
  auto archive = std::make_shared<TokenizerZip>();
  archive->bytes = zip.Finish();
  const Sha256 hash = HashOf(archive->bytes);
  archive->sha256 = absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
  last_ = archive;
  return archive;
}

}  // namespace mea::vllm_engine
