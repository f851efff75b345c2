#include "engine/weights/match_tensors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/storage/mismatch.h"
#include "kernels/int8_rows.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

absl::Status CheckOptions(const LoadOptions& options) {
  const DType wanted = options.weight_dtype.value_or(DType::kF32);
  if (wanted == DType::kF32 || wanted == DType::kBf16 || wanted == DType::kF16 ||
      wanted == DType::kI8) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "weight dtype: expected f32, bf16, f16 or int8, found ", std::string(DTypeName(wanted))));
}

absl::Status Refusal(const std::string& file, const std::string& name, const std::string& expected,
                     const std::string& found) {
  return absl::InvalidArgumentError(Mismatch(file, ShownName(name), expected, found));
}

absl::StatusOr<LoadTask> Match(const SafeTensors& tensors, const TensorSpec& spec,
                               const LoadOptions& options) {
  const std::vector<int64_t>& shape = spec.stored_shape.empty() ? spec.shape : spec.stored_shape;
  const std::string expected = absl::StrCat("shape ", ShapeString(shape));
  const StoredTensor* stored = tensors.Find(spec.name);
  if (stored == nullptr) return Refusal(tensors.source(), spec.name, expected, "no such tensor");
  const bool repeats = !spec.repeated_shape.empty() && stored->shape == spec.repeated_shape;
  if (stored->shape != shape && !repeats) {
    return Refusal(stored->file->path(), spec.name, expected, ShapeString(stored->shape));
  }
  const std::optional<DType> dtype = LoadableDType(stored->dtype);
  if (!dtype) {
    return Refusal(stored->file->path(), spec.name, "dtype F32, F16 or BF16",
                   StoredDTypeName(stored->dtype));
  }
  LoadTask task{.spec = &spec, .whole = stored, .stored = *stored};
  const bool is_part = !repeats && shape.size() == spec.shape.size() && shape[0] > spec.shape[0];
  if (is_part) {
    const int64_t row_bytes = stored->num_bytes / stored->shape[0];
    task.stored.shape[0] = spec.shape[0];
    task.stored.offset += spec.first_row * row_bytes;
    task.stored.num_bytes = spec.shape[0] * row_bytes;
  }
  if (spec.is_matrix()) task.dtype = options.weight_dtype.value_or(*dtype);
  if (spec.role == TensorRole::kExactMatrix && task.dtype == DType::kI8) task.dtype = *dtype;
  return task;
}

}  // namespace

bool LoadTask::is_in_place() const {
  return spec->is_matrix() && LoadableDType(stored.dtype) == dtype &&
         spec->head_transform == nullptr && spec->head_rows.empty();
}

int64_t LoadTask::bytes_in_memory() const {
  const std::vector<int64_t>& shape = spec->shape;
  if (dtype == DType::kI8) return shape[0] * Int8RowStride(shape[1]);
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  return elements * DTypeSize(dtype);
}

absl::StatusOr<std::vector<LoadTask>> MatchTensors(const SafeTensors& tensors,
                                                   const TensorList& list,
                                                   const IsHarmless& is_harmless,
                                                   const LoadOptions& options) {
  MEA_RETURN_IF_ERROR(CheckOptions(options));
  std::vector<LoadTask> tasks;
  std::set<std::string_view> taken;
  for (const TensorSpec& spec : list.specs()) {
    MEA_ASSIGN_OR_RETURN(LoadTask task, Match(tensors, spec, options));
    taken.insert(task.whole->name);
    tasks.push_back(std::move(task));
  }
  for (const auto& [name, stored] : tensors.tensors()) {
    if (taken.contains(name) || is_harmless(name)) continue;
    return Refusal(stored.file->path(), name, "no such tensor in this configuration",
                   absl::StrCat(StoredDTypeName(stored.dtype), " ", ShapeString(stored.shape)));
  }
  std::stable_partition(tasks.begin(), tasks.end(),
                        [](const LoadTask& task) { return task.spec->is_temporary; });
  return tasks;
}

}  // namespace mea
