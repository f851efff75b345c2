#include "engine/weights/match_tensors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/storage/mismatch.h"
#include "kernels/int4_rows.h"
#include "kernels/matrix.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

absl::Status CheckOptions(const LoadOptions& options) {
  const DType wanted = options.weight_dtype.value_or(DType::kF32);
  if (wanted == DType::kF32 || wanted == DType::kBf16 || wanted == DType::kF16 ||
      IsRounded(wanted)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("weight dtype: expected f32, bf16, f16, int8 or int4, found ",
                   std::string(DTypeName(wanted))));
}

absl::Status Refusal(const std::string& file, const std::string& name, const std::string& expected,
                     const std::string& found) {
  return absl::InvalidArgumentError(Mismatch(file, ShownName(name), expected, found));
}

LoadTask MatchPacked(const TensorSpec& spec, const PackedMatrix& packed, int64_t stored_rows,
                     const LoadOptions& options) {
  LoadTask task{
      .spec = &spec, .whole = packed.qweight, .stored = *packed.qweight, .packed = packed};
  task.stored.num_bytes = packed.qweight->num_bytes / stored_rows * spec.shape[0];
  // Exactly as it is, whatever its role, unless other formats are wanted.
  task.dtype = options.weight_dtype.value_or(DType::kI4);
  return task;
}

// A bias of a module that is packed, all zeros: what AutoGPTQ saves where there is none.
bool IsZeroBias(const SafeTensors& tensors, const StoredTensor& stored) {
  constexpr std::string_view kBias = "bias";
  if (!stored.name.ends_with(kBias)) return false;
  const std::string stem = stored.name.substr(0, stored.name.size() - kBias.size());
  return tensors.Find(stem + "qweight") != nullptr &&
         std::all_of(stored.data(), stored.data() + stored.num_bytes,
                     [](char byte) { return byte == 0; });
}

absl::StatusOr<LoadTask> Match(const SafeTensors& tensors, const TensorSpec& spec,
                               const std::optional<PackedFormat>& format,
                               const LoadOptions& options) {
  const std::vector<int64_t>& shape = spec.stored_shape.empty() ? spec.shape : spec.stored_shape;
  if (format && spec.is_matrix()) {
    MEA_ASSIGN_OR_RETURN(const auto packed, FindPackedMatrix(tensors, spec.name, shape, *format));
    if (packed && spec.head_transform != nullptr) {
      return Refusal(packed->qweight->file->path(), packed->qweight->name,
                     "a matrix that is not packed, for heads that are transformed", "qweight");
    }
    if (packed) return MatchPacked(spec, *packed, shape[0], options);
  }
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
  if (spec.is_matrix()) {
    task.dtype = spec.MatrixDType(options.weight_dtype.value_or(*dtype), *dtype);
  }
  return task;
}

}  // namespace

bool LoadTask::is_in_place() const {
  return !packed && spec->is_matrix() && LoadableDType(stored.dtype) == dtype &&
         spec->head_transform == nullptr && spec->head_rows.empty();
}

int64_t LoadTask::bytes_in_memory() const {
  const std::vector<int64_t>& shape = spec->shape;
  if (packed && dtype == DType::kI4) {
    return shape[0] * Int4RowStride(shape[1], packed->memory_group());
  }
  if (spec->is_matrix()) return MatrixBytes(shape[0], shape[1], dtype);
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  return elements * DTypeSize(dtype);
}

absl::StatusOr<std::vector<LoadTask>> MatchTensors(const SafeTensors& tensors,
                                                   const TensorList& list,
                                                   const IsHarmless& is_harmless,
                                                   const std::optional<PackedFormat>& packed,
                                                   const LoadOptions& options) {
  MEA_RETURN_IF_ERROR(CheckOptions(options));
  std::vector<LoadTask> tasks;
  std::set<std::string_view> taken;
  for (const TensorSpec& spec : list.specs()) {
    MEA_ASSIGN_OR_RETURN(LoadTask task, Match(tensors, spec, packed, options));
    taken.insert(task.whole->name);
    if (task.packed) {
      taken.insert(task.packed->qzeros->name);
      taken.insert(task.packed->scales->name);
      if (task.packed->g_idx != nullptr) taken.insert(task.packed->g_idx->name);
    }
    tasks.push_back(std::move(task));
  }
  for (const auto& [name, stored] : tensors.tensors()) {
    if (taken.contains(name) || is_harmless(name)) continue;
    if (packed && IsZeroBias(tensors, stored)) continue;
    return Refusal(stored.file->path(), name, "no such tensor in this configuration",
                   absl::StrCat(StoredDTypeName(stored.dtype), " ", ShapeString(stored.shape)));
  }
  std::stable_partition(tasks.begin(), tasks.end(),
                        [](const LoadTask& task) { return task.spec->is_temporary; });
  return tasks;
}

}  // namespace mea
