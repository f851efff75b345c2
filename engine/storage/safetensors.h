#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/storage/file.h"
#include "kernels/tensor.h"

namespace mea {

// What a safetensors file can hold; only the three float formats load.
enum class StoredDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

std::string StoredDTypeName(StoredDType dtype);  // "BF16", as in the file
int StoredDTypeSize(StoredDType dtype);          // bytes
// F32, F16 and BF16; nothing for the others.
std::optional<DType> LoadableDType(StoredDType dtype);

// One tensor as its header declares it, already checked against its file.
struct StoredTensor {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<int64_t> shape;  // rank 0..kMaxRank
  int64_t offset = 0;          // bytes from the start of the file
  int64_t num_bytes = 0;
  std::shared_ptr<const MappedFile> file;

  const char* data() const { return file->data() + offset; }
};

// "[128, 64]"
std::string ShapeString(std::span<const int64_t> shape);

// The tensors of a checkpoint directory: model.safetensors, or the shards that
// model.safetensors.index.json lists. Files stay mapped (read-only, shared) as long as this object
// or a Tensor made from it lives; nothing is copied. Immutable, so any thread may read it.
//
// Open refuses, with one line naming the file, the tensor, what was expected and what was found:
// headers that do not fit the file or are not JSON, duplicate names, unknown dtypes, sizes that
// overflow, offsets that disagree with the shape, overlap, leave holes or leave the file, and an
// index that disagrees with its shards or leads out of the directory. The format:
// https://github.com/huggingface/safetensors#format
class SafeTensors {
 public:
  static absl::StatusOr<SafeTensors> Open(const std::filesystem::path& dir);

  // Null when there is no such tensor.
  const StoredTensor* Find(std::string_view name) const;
  // Every tensor, by name.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  // Where tensors are looked for: the one file, or the index of the shards.
  const std::string& source() const { return source_; }
  int num_files() const { return num_files_; }

 private:
  static absl::StatusOr<SafeTensors> OpenFile(const std::filesystem::path& file);
  static absl::StatusOr<SafeTensors> OpenShards(const std::filesystem::path& index);

  std::string source_;
  int num_files_ = 0;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

// The tensors that one file declares, in the order of their bytes. Programs call Open below.
absl::StatusOr<std::vector<StoredTensor>> ReadSafeTensorsHeader(
    std::shared_ptr<const MappedFile> file);

// The tensor's elements in place; copied only if they are misaligned for their dtype.
// INVALID_ARGUMENT unless the dtype loads.
absl::StatusOr<Tensor> MapTensor(const StoredTensor& tensor);

}  // namespace mea
