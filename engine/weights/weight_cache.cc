#include "engine/weights/weight_cache.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/storage/checksum.h"
#include "engine/storage/mismatch.h"
#include "engine/storage/output_file.h"
#include "engine/weights/in_parallel.h"
#include "kernels/int4_rows.h"
#include "kernels/machine.h"
#include "kernels/matrix.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

// Of this format and of the bytes that a tensor is made to: a new number wherever either changes.
constexpr char kFormat[] = "mea weights 1\n";
constexpr int64_t kTensorAlignment = 64;
constexpr int64_t kDataAlignment = 4096;
constexpr int64_t kPiece = 1 << 20;         // with a checksum of its own
constexpr int64_t kTogether = 64 * kPiece;  // read ahead and reported

int64_t RoundUp(int64_t bytes, int64_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}
int64_t NumPieces(int64_t bytes) { return (bytes + kPiece - 1) / kPiece; }

// Copies of a checkpoint may have equal names, sizes and times, and times may all be alike (images
// that can be built again); what was trained differs everywhere. So each tensor shows some bytes
// from its middle.
uint64_t Sample(const StoredTensor& stored) {
  const int64_t count = std::min<int64_t>(stored.num_bytes, 4096);
  return Checksum({stored.data() + (stored.num_bytes - count) / 2, static_cast<size_t>(count)});
}

std::string Exactly(double x) { return absl::StrCat(absl::Hex(std::bit_cast<uint64_t>(x))); }

std::string LineOf(const TensorList& list, const LoadTask& task) {
  const TensorSpec& spec = *task.spec;
  const StoredTensor& stored = task.stored;
  const TensorSpec* transform = spec.head_transform ? list.Find(*spec.head_transform) : nullptr;
  return absl::StrCat(
      stored.name, " ", StoredDTypeName(stored.dtype), " ", stored.offset, " ", stored.num_bytes,
      " ", absl::Hex(Sample(stored)), " to ", std::string(DTypeName(task.dtype)), " ",
      ShapeString(spec.shape), " ", Exactly(spec.scale), " ", Exactly(spec.offset), " ",
      absl::StrJoin(spec.dims, ","), " ", absl::StrJoin(spec.order, ","), " ",
      absl::StrJoin(spec.head_rows, ","), " ", transform ? transform->name : "", "\n");
}

std::string Manifest(const TensorList& list, std::span<const LoadTask> tasks, bool checked) {
  std::string text = absl::StrCat(kFormat, checked ? "checked\n" : "unchecked\n");
  std::set<std::string> files;
  for (const LoadTask& task : tasks) files.insert(task.stored.file->path());
  for (const std::string& file : files) {
    std::error_code unknown;
    const auto time = fs::last_write_time(file, unknown);
    absl::StrAppend(&text, fs::path(file).filename().string(), " ", fs::file_size(file, unknown),
                    " ", time.time_since_epoch().count(), "\n");
  }
  for (const LoadTask& task : tasks) text += LineOf(list, task);
  return text;
}

// A tensor of the task's shape and dtype at `data`.
TensorView ViewOf(const LoadTask& task, void* data) {
  const std::vector<int64_t>& shape = task.spec->shape;
  if (!IsRounded(task.dtype)) return TensorView::Dense(data, task.dtype, shape);
  const int64_t stride = MatrixBytes(1, shape[1], task.dtype);
  TensorView view = TensorView::Dense(data, task.dtype, {shape[0], stride});
  view.shape[1] = shape[1];                          // a row of 4 bits has more elements than bytes
  static const auto* const layout = new Int4Layout;  // of all that is rounded at load
  if (task.dtype == DType::kI4) view.int4 = layout;
  return view;
}

}  // namespace

WeightCache::WeightCache(const LoadOptions& options, const TensorList& list,
                         std::span<const LoadTask> tasks)
    : dir_(options.weight_cache), tasks_(tasks) {
  if (dir_.empty()) return;
  bool makes_matrix = false;
  for (const LoadTask& task : tasks) {
    // Packed matrices are only rearranged.
    const bool has_place = !task.is_in_place() && !task.packed && !task.spec->is_temporary;
    offsets_.push_back(has_place ? num_bytes_ : -1);
    if (!has_place) continue;
    makes_matrix |= task.spec->is_matrix();
    num_bytes_ = RoundUp(num_bytes_ + task.bytes_in_memory(), kTensorAlignment);
  }
  if (!makes_matrix) return;
  head_ = Manifest(list, tasks, options.check_matrices);
  file_ = dir_ / absl::StrFormat("%016x.weights", Checksum(head_));
  head_.resize(RoundUp(std::ssize(head_), kDataAlignment), '\0');
}

absl::StatusOr<std::shared_ptr<const MappedFile>> WeightCache::Open(
    const std::function<void(int64_t)>& report) const {
  MEA_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> mapped, MappedFile::Open(file_));
  const int64_t begin = std::ssize(head_);
  const int64_t end = begin + num_bytes_;
  const int64_t size = end + NumPieces(num_bytes_) * int64_t{sizeof(uint64_t)};
  if (mapped->size() != size) {
    return absl::DataLossError(
        absl::StrCat(file_.string(), ": expected ", size, " bytes, found ", mapped->size()));
  }
  if (std::memcmp(mapped->data(), head_.data(), head_.size()) != 0) {
    return absl::DataLossError(
        absl::StrCat(file_.string(), ": expected this checkpoint's weights, found others"));
  }
  std::atomic<int64_t> damaged = -1;  // any of them if there are several
  for (int64_t first = begin; first < end && damaged < 0; first += kTogether) {
    const int64_t count = std::min(kTogether, end - first);
    mapped->ReadAhead(first, 2 * kTogether);
    InParallel(NumPieces(count), 1, UsableCpus(), [&](int64_t piece, int64_t last) {
      for (; piece < last; ++piece) {
        const int64_t at = first + piece * kPiece;
        const int64_t bytes = std::min(kPiece, end - at);
        mapped->Prefault(at, bytes);
        uint64_t expected;
        std::memcpy(&expected,
                    mapped->data() + end + (at - begin) / kPiece * int64_t{sizeof(expected)},
                    sizeof(expected));
        if (Checksum({mapped->data() + at, static_cast<size_t>(bytes)}) != expected) damaged = at;
      }
    });
    report(count);
  }
  if (damaged < 0) return mapped;
  return absl::DataLossError(
      absl::StrCat(file_.string(), ": wrong checksum of the MiB from byte ", damaged.load()));
}

Tensor WeightCache::TensorOf(size_t index, const std::shared_ptr<const MappedFile>& mapped) const {
  const char* const data = mapped->data() + std::ssize(head_) + offsets_[index];
  // The view is writable only in type: ops never write through their inputs.
  return Tensor(ViewOf(tasks_[index], const_cast<char*>(data)),
                std::const_pointer_cast<MappedFile>(mapped));
}

absl::Status WeightCache::Write() const {
  std::error_code error;
  fs::create_directories(dir_, error);
  if (error) return WriteError(dir_, error.value());
  const fs::path fresh = file_.string() + ".new";
  MEA_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> out, OutputFile::CreateAlone(fresh));
  if (out == nullptr) return absl::OkStatus();
  absl::Status status = WriteTo(*out);
  // Renamed while it is locked: whoever waits for the lock finds that it is no longer there.
  if (status.ok()) {
    fs::rename(fresh, file_, error);
    if (error) status = WriteError(file_, error.value());
  }
  if (!status.ok()) fs::remove(fresh, error);
  return status;
}

absl::Status WeightCache::WriteTo(OutputFile& out) const {
  MEA_RETURN_IF_ERROR(out.Append(head_));
  std::string piece;
  std::vector<uint64_t> checksums;
  const auto flush = [&]() -> absl::Status {
    checksums.push_back(Checksum(piece));
    const absl::Status status = out.Append(piece);
    piece.clear();
    return status;
  };
  piece.reserve(kPiece);
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (offsets_[i] < 0) continue;
    const auto* const data = static_cast<const char*>(tasks_[i].spec->view->data);
    const int64_t bytes = tasks_[i].bytes_in_memory();
    for (int64_t done = 0; done < bytes;) {
      const int64_t count = std::min(bytes - done, kPiece - std::ssize(piece));
      piece.append(data + done, count);
      done += count;
      if (std::ssize(piece) == kPiece) MEA_RETURN_IF_ERROR(flush());
    }
    // kPiece is a multiple of the alignment.
    piece.resize(RoundUp(std::ssize(piece), kTensorAlignment), '\0');
    if (std::ssize(piece) == kPiece) MEA_RETURN_IF_ERROR(flush());
  }
  if (!piece.empty()) MEA_RETURN_IF_ERROR(flush());
  MEA_RETURN_IF_ERROR(out.Append(
      {reinterpret_cast<const char*>(checksums.data()), checksums.size() * sizeof(checksums[0])}));
  return out.Sync();
}

}  // namespace mea
