#include "engine/weights/load_tensors.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/storage/convert_dtype.h"
#include "engine/storage/mismatch.h"
#include "engine/storage/non_finite.h"
#include "engine/weights/head_transform.h"
#include "engine/weights/in_parallel.h"
#include "engine/weights/match_tensors.h"
#include "engine/weights/weight_cache.h"
#include "kernels/host_memory.h"
#include "kernels/int4_rows.h"
#include "kernels/machine.h"
#include "kernels/matrix.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// Progress is reported at least this often.
constexpr int64_t kChunkBytes = 64 << 20;
// One thread maps and then checks a piece, which must fit its cache.
constexpr int64_t kPieceBytes = 1 << 20;
// Rounding so many elements takes many times as long as starting a thread.
constexpr int64_t kWorthAThread = 1 << 20;

// Runs the tasks of a plan.
class Loader {
 public:
  Loader(const LoadOptions& options, const LoadProgress& progress, int64_t bytes_total)
      : options_(options), progress_(progress), bytes_total_(bytes_total) {}

  absl::Status Load(const LoadTask& task, ModelWeights& weights) {
    const TensorSpec& spec = *task.spec;
    if (!task.packed) ReorderRows(task);
    MEA_ASSIGN_OR_RETURN(Tensor tensor, task.packed             ? Unpack(task)
                                        : task.is_in_place()    ? Map(task, weights)
                                        : IsRounded(task.dtype) ? Quantize(task)
                                        : spec.head_transform   ? Transform(task, task.dtype)
                                                                : Convert(task));
    if (spec.is_temporary) {
      *spec.view = tensor.view();
      temporary_.push_back(std::move(tensor));
    } else {
      Keep(task, std::move(tensor), weights);
    }
    return absl::OkStatus();
  }

  // What the cache's file holds, and the rest from the checkpoint.
  absl::Status LoadCached(std::span<const LoadTask> tasks, const WeightCache& cache,
                          const std::shared_ptr<const MappedFile>& file, ModelWeights& weights) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      if (cache.Holds(i)) {
        Keep(tasks[i], cache.TensorOf(i, file), weights);
      } else if (!tasks[i].spec->is_temporary) {
        MEA_RETURN_IF_ERROR(Load(tasks[i], weights));
      }
    }
    return absl::OkStatus();
  }

  void Report(int64_t more_bytes) {
    bytes_done_ += more_bytes;
    if (progress_) progress_("weights", bytes_done_, bytes_total_);
  }

 private:
  void Keep(const LoadTask& task, Tensor tensor, ModelWeights& weights) {
    *task.spec->view = tensor.view();
    weights.num_bytes += tensor.num_bytes();
    if (tensor.view().data == task.stored.data()) weights.mapped_bytes += tensor.num_bytes();
    weights.storage.push_back(std::move(tensor));
  }

  // The elements to convert next: in the file, or in a copy that has the order of memory.
  void ReorderRows(const LoadTask& task) {
    const std::vector<int>& order = task.spec->head_rows;
    data_ = task.stored.data();
    if (order.empty()) return;
    const int64_t rows = task.spec->shape[0];
    const int64_t row_bytes = task.stored.num_bytes / rows;
    const auto d = std::ssize(order);
    reordered_.resize(task.stored.num_bytes);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t from = i / d * d + order[i % d];
      std::memcpy(reordered_.data() + i * row_bytes, data_ + from * row_bytes, row_bytes);
    }
    data_ = reordered_.data();
  }

  // The pages of the checkpoint themselves.
  absl::StatusOr<Tensor> Map(const LoadTask& task, ModelWeights& weights) {
    const StoredTensor& stored = task.stored;
    for (int64_t first = 0; first < stored.num_bytes; first += kChunkBytes) {
      const int64_t count = std::min(kChunkBytes, stored.num_bytes - first);
      // The disk reads the next chunk, which may be of another tensor, while this one is checked.
      if (options_.prefault) stored.file->ReadAhead(stored.offset + first, 2 * kChunkBytes);
      if (options_.prefault && !Read(stored, first, count)) {
        return NonFiniteError(*task.whole, task.dtype);
      }
      Report(count);
    }
    absl::StatusOr<Tensor> tensor = MapTensor(stored);
    if (tensor.ok() && options_.check_matrices && !options_.prefault) {
      weights.unchecked.emplace(tensor->view().data, task.whole);
    }
    return tensor;
  }

  // Bytes [first, first + count) of a tensor into memory, on all cores: the thread that mapped a
  // piece checks it while it is in the cache. False if an element is not finite.
  bool Read(const StoredTensor& stored, int64_t first, int64_t count) {
    const DType dtype = *LoadableDType(stored.dtype);
    const int64_t size = DTypeSize(dtype);
    std::atomic<bool> finite = true;
    InParallel(count / size, kPieceBytes / size, UsableCpus(), [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; piece += kPieceBytes / size) {
        const int64_t elements = std::min(end - piece, kPieceBytes / size);
        const int64_t at = first + piece * size;
        stored.file->Prefault(stored.offset + at, elements * size);
        if (!options_.check_matrices) continue;
        if (FindNonFinite(stored.data() + at, dtype, elements) >= 0) finite = false;
      }
    });
    return finite;
  }

  // Needs its own memory: another dtype, a small vector, or a gain repeated for every head.
  absl::StatusOr<Tensor> Convert(const LoadTask& task) {
    const StoredTensor& stored = task.stored;
    MEA_ASSIGN_OR_RETURN(Tensor tensor,
                         AllocateHostTensor(task.spec->shape, task.dtype, Presence::kAtUse));
    const DType from = *LoadableDType(stored.dtype);
    char* out = static_cast<char*>(tensor.view().data);
    const int64_t num_elements = stored.num_bytes / DTypeSize(from);
    const int64_t chunk = kChunkBytes / DTypeSize(from);
    for (int64_t first = 0; first < num_elements; first += chunk) {
      const int64_t count = std::min(chunk, num_elements - first);
      ConversionResult result;
      std::mutex mutex;
      InParallel(count, kWorthAThread, UsableCpus(), [&](int64_t begin, int64_t end) {
        const int64_t at = first + begin;
        const ConversionResult part =
            ConvertDType(data_ + at * DTypeSize(from), from, out + at * DTypeSize(task.dtype),
                         task.dtype, end - begin);
        const std::lock_guard lock(mutex);
        result.num_overflows += part.num_overflows;
        result.num_non_finite += part.num_non_finite;
      });
      const bool checks = options_.check_matrices || !task.spec->is_matrix();
      if (result.num_overflows > 0 || (checks && result.num_non_finite > 0)) {
        return NotFinite(task, result);
      }
      Report(count * DTypeSize(from));
    }
    if (task.spec->scale != 1.0 || task.spec->offset != 0.0) {
      for (int64_t i = 0; i < num_elements; ++i) {
        float& x = reinterpret_cast<float*>(out)[i];
        x = static_cast<float>(task.spec->offset + task.spec->scale * x);
      }
    }
    if (task.spec->order != std::array<int, 3>{}) {
      Reorder(*task.spec, reinterpret_cast<float*>(out));
    }
    const int64_t stored_bytes = num_elements * DTypeSize(task.dtype);
    for (int64_t done = stored_bytes; done < tensor.num_bytes(); done += stored_bytes) {
      std::copy_n(out, stored_bytes, out + done);
    }
    return tensor;
  }

  // A projection, or its bias, with a matrix applied to every head.
  absl::StatusOr<Tensor> Transform(const LoadTask& task, DType dtype) {
    const StoredTensor& stored = task.stored;
    MEA_ASSIGN_OR_RETURN(Tensor tensor, Tensor::AllocateHost(task.spec->shape, dtype));
    const ConversionResult result = TransformHeads(data_, *LoadableDType(stored.dtype),
                                                   *task.spec->head_transform, tensor.view());
    if (result.num_overflows > 0 || result.num_non_finite > 0) return NotFinite(task, result);
    Report(stored.num_bytes);
    return tensor;
  }

  // Rows of integers, from the numbers that are stored or transformed.
  absl::StatusOr<Tensor> Quantize(const LoadTask& task) {
    const StoredTensor& stored = task.stored;
    const int64_t rows = task.spec->shape[0];
    const int64_t k = task.spec->shape[1];
    Tensor transformed;
    if (task.spec->head_transform) {
      MEA_ASSIGN_OR_RETURN(transformed, Transform(task, DType::kF32));
    }
    MEA_ASSIGN_OR_RETURN(Tensor tensor, AllocateMatrix(rows, k, task.dtype));
    const DType from = *LoadableDType(stored.dtype);
    const int64_t row_bytes = k * DTypeSize(from);
    const auto convert = [&](int64_t i, float* row) {
      return task.spec->head_transform
                 ? ConvertDType(transformed.view().row<float>(i), DType::kF32, row, DType::kF32, k)
                 : ConvertDType(data_ + i * row_bytes, from, row, DType::kF32, k);
    };
    // Rows in stretches of a chunk, each shared by all threads.
    const int64_t rows_per_report = std::max<int64_t>(1, kChunkBytes / row_bytes);
    const int64_t worth_a_thread = std::max<int64_t>(1, kWorthAThread / k);
    for (int64_t first = 0; first < rows; first += rows_per_report) {
      const int64_t count = std::min(rows_per_report, rows - first);
      std::atomic<int64_t> bad_row = count;  // any of them if there are several
      InParallel(count, worth_a_thread, UsableCpus(), [&](int64_t begin, int64_t end) {
        std::vector<float> row(k);
        for (int64_t i = begin; i < end; ++i) {
          if (convert(first + i, row.data()).num_non_finite > 0) {
            bad_row = i;
            return;
          }
          RoundRow(row.data(), tensor.view(), first + i);
        }
      });
      if (bad_row < count) {
        std::vector<float> row(k);
        return NotFinite(task, convert(first + bad_row, row.data()));
      }
      if (!task.spec->head_transform) Report(count * row_bytes);  // otherwise reported by Transform
    }
    return tensor;
  }

  // A matrix in 4 bits, or its numbers in another format.
  absl::StatusOr<Tensor> Unpack(const LoadTask& task) {
    const TensorSpec& spec = *task.spec;
    const auto column = [&](int64_t row) {
      const auto d = std::ssize(spec.head_rows);
      return spec.first_row + (d == 0 ? row : row / d * d + spec.head_rows[row % d]);
    };
    const int64_t rows = spec.shape[0];
    const int64_t k = spec.shape[1];
    MEA_ASSIGN_OR_RETURN(Tensor packed, UnpackMatrix(*task.packed, rows, k, column));
    Report(task.stored.num_bytes);
    if (task.dtype == DType::kI4) {
      if (!spec.is_expert || packed.view().int4->order.empty()) return packed;
      // Rows are prepared once for all experts (Backend::Moe).
      return absl::InvalidArgumentError(
          Mismatch(task.packed->g_idx->file->path(), ShownName(task.packed->g_idx->name),
                   "inputs of an expert in the order of their groups", "another (desc_act)"));
    }
    MEA_ASSIGN_OR_RETURN(Tensor tensor, AllocateMatrix(rows, k, task.dtype));
    const TensorView& view = tensor.view();
    std::atomic<int64_t> num_overflows = 0;
    InParallel(rows, std::max<int64_t>(1, kWorthAThread / k), UsableCpus(),
               [&](int64_t begin, int64_t end) {
                 std::vector<float> row(k);
                 for (int64_t i = begin; i < end; ++i) {
                   WidenInt4Row(packed.view(), i, row.data());
                   if (IsRounded(task.dtype)) {
                     RoundRow(row.data(), view, i);
                     continue;
                   }
                   char* const to = static_cast<char*>(view.data) + i * k * DTypeSize(task.dtype);
                   num_overflows +=
                       ConvertDType(row.data(), DType::kF32, to, task.dtype, k).num_overflows;
                 }
               });
    if (num_overflows > 0) return NotFinite(task, {.num_overflows = num_overflows});
    return tensor;
  }

  static absl::Status NotFinite(const LoadTask& task, const ConversionResult& result) {
    if (result.num_overflows == 0) return NonFiniteError(*task.whole, task.dtype);
    return absl::InvalidArgumentError(
        Mismatch(task.whole->file->path(), ShownName(task.whole->name),
                 absl::StrCat("finite values in ", std::string(DTypeName(task.dtype))),
                 absl::StrCat(result.num_overflows, " beyond its range")));
  }

  static void Reorder(const TensorSpec& spec, float* elements) {
    const auto& [a, b, c] = spec.dims;
    const std::vector<float> stored(elements, elements + a * b * c);
    const std::array<int64_t, 3> stride = {b * c, c, 1};
    const auto& [x, y, z] = spec.order;
    for (int64_t i = 0; i < spec.dims[x]; ++i) {
      for (int64_t j = 0; j < spec.dims[y]; ++j) {
        for (int64_t k = 0; k < spec.dims[z]; ++k) {
          *elements++ = stored[i * stride[x] + j * stride[y] + k * stride[z]];
        }
      }
    }
  }

  std::vector<Tensor> temporary_;
  const char* data_ = nullptr;
  std::vector<char> reordered_;
  const LoadOptions& options_;
  const LoadProgress& progress_;
  const int64_t bytes_total_;
  int64_t bytes_done_ = 0;
};

}  // namespace

absl::Status LoadTensors(const SafeTensors& tensors, const TensorList& list,
                         const IsHarmless& is_harmless, const std::optional<PackedFormat>& packed,
                         const LoadOptions& options, const LoadProgress& progress,
                         ModelWeights& weights) {
  MEA_ASSIGN_OR_RETURN(const std::vector<LoadTask> tasks,
                       MatchTensors(tensors, list, is_harmless, packed, options));
  const auto warn = [&](const absl::Status& status) {
    if (options.warn) options.warn(absl::StrCat("--weight-cache: ", status.message()));
  };
  const WeightCache cache(options, list, tasks);
  if (cache.has_file()) {
    int64_t bytes_total = cache.num_bytes();
    for (size_t i = 0; i < tasks.size(); ++i) {
      const bool is_loaded = !cache.Holds(i) && !tasks[i].spec->is_temporary;
      if (is_loaded) bytes_total += tasks[i].stored.num_bytes;
    }
    Loader loader(options, progress, bytes_total);
    loader.Report(0);
    const auto file = cache.Open([&](int64_t bytes) { loader.Report(bytes); });
    if (file.ok()) return loader.LoadCached(tasks, cache, *file, weights);
    if (!absl::IsNotFound(file.status())) warn(file.status());
  }
  int64_t bytes_total = 0;
  for (const LoadTask& task : tasks) bytes_total += task.stored.num_bytes;
  Loader loader(options, progress, bytes_total);
  loader.Report(0);
  for (const LoadTask& task : tasks) MEA_RETURN_IF_ERROR(loader.Load(task, weights));
  if (cache.has_file()) {
    if (const absl::Status status = cache.Write(); !status.ok()) warn(status);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> PlannedTensorBytes(const SafeTensors& tensors, const TensorList& list,
                                           const IsHarmless& is_harmless,
                                           const std::optional<PackedFormat>& packed,
                                           const LoadOptions& options) {
  MEA_ASSIGN_OR_RETURN(const std::vector<LoadTask> tasks,
                       MatchTensors(tensors, list, is_harmless, packed, options));
  int64_t bytes = 0;
  for (const LoadTask& task : tasks) bytes += task.spec->is_temporary ? 0 : task.bytes_in_memory();
  return bytes;
}

}  // namespace mea
