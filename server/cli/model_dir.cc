#include "server/cli/model_dir.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/hub_cache.h"

namespace mea {
namespace {

// "ORG/NAME", as Hugging Face names a repository.
bool IsRepository(const std::string& text) {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  const size_t slash = text.find('/');
  return slash != text.npos && slash > 0 && slash + 1 < text.size() && text[0] != '.' &&
         text.find_first_not_of(kLetters) == slash &&
         text.find_first_not_of(kLetters, slash + 1) == text.npos;
}

}  // namespace

CLI::Validator CheckpointDir() {
  const auto transform = [](std::string& dir) -> std::string {
    const auto snapshot = SnapshotOf(dir);
    if (!snapshot.ok()) return std::string(snapshot.status().message());
    dir = snapshot->string();
    return "";
  };
  return CLI::Validator(transform, "");
}

absl::Status CheckModelDir(const std::string& dir) {
  std::error_code error;
  if (std::filesystem::is_directory(dir, error)) return absl::OkStatus();
  if (std::filesystem::exists(dir, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir,
                     " is not a directory; mea reads checkpoints as Hugging Face lays them out: "
                     "config.json, *.safetensors, tokenizer.json"));
  }
  const std::string repository = IsRepository(dir) ? dir : "ORG/NAME";
  const std::string name = repository.substr(repository.find('/') + 1);
  return absl::NotFoundError(absl::StrCat("there is no directory ", dir,
                                          ", and mea downloads nothing; hf download ", repository,
                                          " --local-dir ", name, " gets a model"));
}

}  // namespace mea
