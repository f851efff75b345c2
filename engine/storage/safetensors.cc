#include "engine/storage/safetensors.h"

#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/storage/field_reader.h"
#include "engine/storage/json.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFileName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr size_t kMaxShards = 4096;

// Which file holds each tensor, by name.
using WeightMap = std::map<std::string, std::string, std::less<>>;

// A shard is in the directory of its index. (It may be a symbolic link to anywhere, as in the
// Hugging Face cache: that is the owner's choice, not the index's.)
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name.ends_with(".safetensors");
}

absl::StatusOr<WeightMap> ReadIndex(const fs::path& index) {
  MEA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index));
  const std::string file = index.string();
  MEA_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(text, file));
  FieldReader in(document, file);
  const nlohmann::json* map = in.Get("weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    in.RefuseValue("weight_map", "an object that names a file for each tensor",
                   map == nullptr ? nlohmann::json() : *map);
  }
  if (!in.status().ok()) return in.status();

  WeightMap weight_map;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(Mismatch(file, ShownName(tensor),
                                                 "the name of a .safetensors file beside the index",
                                                 ShownValue(shard)));
    }
    weight_map.emplace(tensor, shard.get<std::string>());
  }
  return weight_map;
}

}  // namespace

absl::StatusOr<SafeTensors> SafeTensors::Open(const fs::path& dir) {
  // transformers prefers the single file if both exist.
  const auto is_there = [&](const char* name) {
    std::error_code error;  // a dangling link counts as existing; opening it reports the error
    return fs::exists(fs::symlink_status(dir / name, error));
  };
  if (is_there(kFileName)) return OpenFile(dir / kFileName);
  if (is_there(kIndexName)) return OpenShards(dir / kIndexName);
  return absl::NotFoundError(
      absl::StrCat(dir.string(), ": expected ", kFileName, " or ", kIndexName, ", found neither"));
}

absl::StatusOr<SafeTensors> SafeTensors::OpenFile(const fs::path& file) {
  MEA_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> mapped, MappedFile::Open(file));
  MEA_ASSIGN_OR_RETURN(std::vector<StoredTensor> tensors, ReadSafeTensorsHeader(mapped));
  SafeTensors result;
  result.source_ = file.string();
  result.num_files_ = 1;
  for (StoredTensor& tensor : tensors) {
    std::string name = tensor.name;
    result.tensors_.emplace(std::move(name), std::move(tensor));
  }
  return result;
}

absl::StatusOr<SafeTensors> SafeTensors::OpenShards(const fs::path& index) {
  MEA_ASSIGN_OR_RETURN(const WeightMap weight_map, ReadIndex(index));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  if (shards.size() > kMaxShards) {
    return absl::InvalidArgumentError(Mismatch(index.string(), "weight_map",
                                               absl::StrCat("at most ", kMaxShards, " files"),
                                               absl::StrCat(shards.size())));
  }

  SafeTensors result;
  result.source_ = index.string();
  for (const std::string& shard : shards) {
    MEA_ASSIGN_OR_RETURN(SafeTensors part, OpenFile(index.parent_path() / shard));
    ++result.num_files_;
    for (auto& [name, tensor] : part.tensors_) {
      const auto listed = weight_map.find(name);
      if (listed == weight_map.end() || listed->second != shard) {
        return absl::InvalidArgumentError(
            Mismatch(part.source_, ShownName(name),
                     listed == weight_map.end()
                         ? "only tensors that the index lists"
                         : absl::StrCat("it in ", listed->second, " as the index says"),
                     "it here"));
      }
      result.tensors_.emplace(name, std::move(tensor));
    }
  }
  for (const auto& [name, shard] : weight_map) {
    if (result.tensors_.contains(name)) continue;
    return absl::InvalidArgumentError(Mismatch((index.parent_path() / shard).string(),
                                               ShownName(name), "it here as the index says",
                                               "no such tensor"));
  }
  return result;
}

const StoredTensor* SafeTensors::Find(std::string_view name) const {
  const auto tensor = tensors_.find(name);
  return tensor == tensors_.end() ? nullptr : &tensor->second;
}

absl::StatusOr<Tensor> MapTensor(const StoredTensor& tensor) {
  const std::optional<DType> dtype = LoadableDType(tensor.dtype);
  if (!dtype) {
    return absl::InvalidArgumentError(Mismatch(tensor.file->path(), ShownName(tensor.name),
                                               "F32, F16 or BF16", StoredDTypeName(tensor.dtype)));
  }
  const char* data = tensor.data();
  if (reinterpret_cast<uintptr_t>(data) % DTypeSize(*dtype) == 0) {
    // The view is writable only in type: ops never write through their inputs.
    return Tensor(TensorView::Dense(const_cast<char*>(data), *dtype, tensor.shape),
                  std::const_pointer_cast<MappedFile>(tensor.file));
  }
  absl::StatusOr<Tensor> copy = Tensor::AllocateHost(tensor.shape, *dtype);
  if (copy.ok()) std::memcpy(copy->view().data, data, tensor.num_bytes);
  return copy;
}

}  // namespace mea
