// The header of one safetensors file: a u64 length, that many bytes of JSON, then the data.
// https://github.com/huggingface/safetensors#format

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/storage/json.h"
#include "engine/storage/mismatch.h"
#include "engine/storage/safetensors.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct DTypeRow {
  StoredDType dtype;
  std::string_view name;
  int bytes;
  std::optional<DType> loadable = std::nullopt;
};
constexpr std::array<DTypeRow, 15> kDTypes = {{
    {StoredDType::kBool, "BOOL", 1},
    {StoredDType::kU8, "U8", 1},
    {StoredDType::kI8, "I8", 1},
    {StoredDType::kF8E4M3, "F8_E4M3", 1},
    {StoredDType::kF8E5M2, "F8_E5M2", 1},
    {StoredDType::kI16, "I16", 2},
    {StoredDType::kU16, "U16", 2},
    {StoredDType::kF16, "F16", 2, DType::kF16},
    {StoredDType::kBf16, "BF16", 2, DType::kBf16},
    {StoredDType::kI32, "I32", 4},
    {StoredDType::kU32, "U32", 4},
    {StoredDType::kF32, "F32", 4, DType::kF32},
    {StoredDType::kI64, "I64", 8},
    {StoredDType::kU64, "U64", 8},
    {StoredDType::kF64, "F64", 8},
}};

const DTypeRow& Row(StoredDType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }
static_assert(kDTypes.back().dtype == StoredDType::kF64 &&
              static_cast<size_t>(StoredDType::kF64) + 1 == kDTypes.size());

absl::Status Refusal(const std::string& file, const std::string& what, const std::string& expected,
                     const std::string& found) {
  return absl::InvalidArgumentError(Mismatch(file, what, expected, found));
}

// The header's text, its length checked against the file's.
absl::StatusOr<std::string_view> HeaderText(const MappedFile& file) {
  if (file.size() < kLengthBytes) {
    return Refusal(file.path(), "header", "8 bytes of length at least",
                   absl::StrCat(file.size(), " bytes in the file"));
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  const int64_t limit = std::min(kMaxHeaderBytes, file.size() - kLengthBytes);
  if (length > static_cast<uint64_t>(limit)) {
    return Refusal(file.path(), "header",
                   absl::StrCat("at most ", limit, " bytes, as the file has room for"),
                   absl::StrCat("a length of ", length));
  }
  const std::string_view text(file.data() + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    return Refusal(file.path(), "header", "JSON that starts with '{'",
                   ShownName(std::string(text.substr(0, 16))));
  }
  return text;
}

std::optional<int64_t> NonNegative(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(number);
}

// The entries of a list of non-negative integers; nothing when it is anything else.
std::optional<std::vector<int64_t>> NonNegativeList(const json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const json& element : value) {
    const std::optional<int64_t> number = NonNegative(element);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

// Bytes of a dense tensor; nothing on overflow.
std::optional<int64_t> DenseBytes(std::span<const int64_t> shape, StoredDType dtype) {
  int64_t bytes = StoredDTypeSize(dtype);
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
  }
  return bytes;
}

// One entry of the header; offsets count from the start of the data.
absl::StatusOr<StoredTensor> ReadEntry(const std::string& name, const json& entry,
                                       const std::string& file) {
  const std::string what = ShownName(name);
  if (!entry.is_object()) return Refusal(file, what, "an object", ShownValue(entry));
  for (const auto& [field, value] : entry.items()) {
    if (field != "dtype" && field != "shape" && field != "data_offsets") {
      return Refusal(file, what, "only dtype, shape and data_offsets", ShownName(field));
    }
  }
  const auto field = [&entry](const char* key) { return entry.value(key, json()); };

  StoredTensor tensor;
  tensor.name = name;
  const json dtype = field("dtype");
  const auto row = std::find_if(kDTypes.begin(), kDTypes.end(),
                                [&dtype](const DTypeRow& r) { return dtype == r.name; });
  if (row == kDTypes.end()) {
    return Refusal(file, what,
                   absl::StrCat("dtype one of ", absl::StrJoin(kDTypes, ", ",
                                                               [](std::string* out, const auto& r) {
                                                                 out->append(r.name);
                                                               })),
                   ShownValue(dtype));
  }
  tensor.dtype = row->dtype;

  const json shape = field("shape");
  const auto extents = NonNegativeList(shape);
  if (!extents || extents->size() > static_cast<size_t>(kMaxRank)) {
    return Refusal(file, what,
                   absl::StrCat("shape of at most ", kMaxRank, " non-negative integers"),
                   ShownValue(shape));
  }
  tensor.shape = *extents;
  const std::optional<int64_t> bytes = DenseBytes(tensor.shape, tensor.dtype);
  if (!bytes) {
    return Refusal(file, what, "shape of less than 2^63 bytes", ShapeString(tensor.shape));
  }
  tensor.num_bytes = *bytes;

  const json offsets = field("data_offsets");
  const auto range = NonNegativeList(offsets);
  if (!range || range->size() != 2 || (*range)[0] > (*range)[1]) {
    return Refusal(file, what, "data_offsets [begin, end] with 0 <= begin <= end",
                   ShownValue(offsets));
  }
  tensor.offset = (*range)[0];
  if ((*range)[1] - (*range)[0] != tensor.num_bytes) {
    return Refusal(file, what,
                   absl::StrCat(tensor.num_bytes, " bytes, as shape ", ShapeString(tensor.shape),
                                " of ", StoredDTypeName(row->dtype), " takes"),
                   absl::StrCat("data_offsets ", ShownValue(offsets)));
  }
  return tensor;
}

absl::Status CheckMetadata(const json& metadata, const std::string& file) {
  const bool strings =
      metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                          [](const json& value) { return value.is_string(); });
  if (strings) return absl::OkStatus();
  return Refusal(file, "__metadata__", "an object of strings", ShownValue(metadata));
}

// The format requires that tensors cover all of the data, each byte once.
absl::Status CheckCover(std::span<const StoredTensor> by_offset, int64_t data_bytes,
                        const std::string& file) {
  int64_t covered = 0;
  for (const StoredTensor& tensor : by_offset) {
    const std::string what = ShownName(tensor.name);
    if (tensor.num_bytes > data_bytes - tensor.offset) {
      return Refusal(file, what, absl::StrCat("data within the file's ", data_bytes, " data bytes"),
                     absl::StrCat(tensor.num_bytes, " bytes at ", tensor.offset));
    }
    if (tensor.offset != covered) {
      return Refusal(file, what, absl::StrCat("data at ", covered, ", where the last tensor ends"),
                     absl::StrCat(tensor.offset < covered ? "an overlap at " : "a hole before ",
                                  tensor.offset));
    }
    covered += tensor.num_bytes;
  }
  if (covered == data_bytes) return absl::OkStatus();
  return Refusal(file, "data", absl::StrCat(covered, " bytes, as the header declares"),
                 absl::StrCat(data_bytes));
}

}  // namespace

std::string StoredDTypeName(StoredDType dtype) { return std::string(Row(dtype).name); }
int StoredDTypeSize(StoredDType dtype) { return Row(dtype).bytes; }
std::optional<DType> LoadableDType(StoredDType dtype) { return Row(dtype).loadable; }

std::string ShapeString(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<std::vector<StoredTensor>> ReadSafeTensorsHeader(
    std::shared_ptr<const MappedFile> file) {
  const std::string& path = file->path();
  MEA_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(*file));
  MEA_ASSIGN_OR_RETURN(const json header, ParseJson(text, path));

  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      MEA_RETURN_IF_ERROR(CheckMetadata(entry, path));
      continue;
    }
    MEA_ASSIGN_OR_RETURN(StoredTensor tensor, ReadEntry(name, entry, path));
    tensors.push_back(std::move(tensor));
  }
  // Empty tensors sort before a tensor with the same start.
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.offset, a.num_bytes) < std::pair(b.offset, b.num_bytes);
  });
  const int64_t data_start = kLengthBytes + static_cast<int64_t>(text.size());
  MEA_RETURN_IF_ERROR(CheckCover(tensors, file->size() - data_start, path));
  for (StoredTensor& tensor : tensors) {
    tensor.offset += data_start;
    tensor.file = file;
  }
  return tensors;
}

}  // namespace mea
