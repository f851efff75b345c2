#include "engine/weights/place_tensors.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/storage/non_finite.h"
#include "engine/weights/in_parallel.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int64_t kStagingBytes = int64_t{32} << 20;
// One thread checks at least this many.
constexpr int64_t kCheckedAtOnceBytes = int64_t{1} << 20;

TensorView Bytes(void* data, int64_t count, Device device) {
  // Every tensor is a whole number of two bytes: no device takes 8-bit weights.
  return TensorView::Dense(data, DType::kBf16, {1, count / 2}, device);
}

// Copies host memory to a device through two pinned buffers: one is filled while the other is
// copied.
class Uploader {
 public:
  static absl::StatusOr<Uploader> Create(Backend* backend, int64_t bytes_total,
                                         const LoadProgress& progress) {
    Uploader uploader(backend, bytes_total, progress);
    const std::array<int64_t, 1> shape = {kStagingBytes / 2};
    for (Tensor& buffer : uploader.staging_) {
      MEA_ASSIGN_OR_RETURN(buffer, backend->AllocateHost(shape, DType::kBf16));
    }
    return uploader;
  }

  // `unchecked`: the tensor if it has not been checked yet, or null.
  absl::Status Copy(TensorView host, TensorView device, const StoredTensor* unchecked) {
    MEA_CHECK(host.is_dense() && device.is_dense() && host.dtype == device.dtype);
    const int64_t num_bytes = host.num_elements() * DTypeSize(host.dtype);
    for (int64_t first = 0; first < num_bytes; first += kStagingBytes) {
      const int64_t count = std::min(kStagingBytes, num_bytes - first);
      void* buffer = staging_[next_].view().data;
      next_ = 1 - next_;
      std::memcpy(buffer, static_cast<const char*>(host.data) + first, count);
      if (unchecked != nullptr && !IsFinite(buffer, host.dtype, count)) {
        return NonFiniteError(*unchecked, host.dtype);
      }
      MEA_RETURN_IF_ERROR(backend_->Synchronize());
      backend_->Upload(Bytes(buffer, count, Device::kCpu),
                       Bytes(static_cast<char*>(device.data) + first, count, device.device));
      bytes_done_ += count;
      if (progress_) progress_("weights to the device", bytes_done_, bytes_total_);
    }
    return absl::OkStatus();
  }

 private:
  static bool IsFinite(const void* buffer, DType dtype, int64_t num_bytes) {
    const int64_t size = DTypeSize(dtype);
    std::atomic<bool> finite = true;
    InParallel(num_bytes / size, kCheckedAtOnceBytes / size, UsableCpus(),
               [&](int64_t begin, int64_t end) {
                 const char* piece = static_cast<const char*>(buffer) + begin * size;
                 if (FindNonFinite(piece, dtype, end - begin) >= 0) finite = false;
               });
    return finite;
  }

  Uploader(Backend* backend, int64_t bytes_total, const LoadProgress& progress)
      : backend_(backend), bytes_total_(bytes_total), progress_(progress) {}

  Backend* backend_;
  int64_t bytes_total_;
  int64_t bytes_done_ = 0;
  LoadProgress progress_;
  std::array<Tensor, 2> staging_;
  int next_ = 0;
};

// Tensors that are adjacent in one run of memory. Absent ones are empty.
using Run = std::span<const TensorSpec>;

// Moves the tensors of a run to their own memory and updates their views.
absl::Status MoveRun(Run run, const Unchecked& unchecked, Backend& backend, Uploader& uploader,
                     ModelWeights& weights) {
  int64_t num_elements = 0;
  for (const TensorSpec& spec : run) num_elements += spec.view->num_elements();
  if (num_elements == 0) return absl::OkStatus();
  const DType dtype = run.front().view->dtype;
  const std::array<int64_t, 1> shape = {num_elements};
  MEA_ASSIGN_OR_RETURN(Tensor memory, backend.Allocate(shape, dtype));
  int64_t begin = 0;
  for (const TensorSpec& spec : run) {
    TensorView& view = *spec.view;
    if (view.empty()) continue;
    MEA_CHECK(view.dtype == dtype);
    const TensorView part = memory.view().Rows(begin, view.num_elements());
    const TensorView placed = TensorView::Dense(
        part.data, dtype, std::span(view.shape).first(view.rank), backend.device());
    const auto nobody_looked = unchecked.find(view.data);
    MEA_RETURN_IF_ERROR(uploader.Copy(
        view, placed, nobody_looked == unchecked.end() ? nullptr : nobody_looked->second));
    begin += view.num_elements();
    view = placed;
  }
  weights.num_bytes += memory.num_bytes();
  weights.storage.push_back(std::move(memory));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Tensor> Place(TensorView host, Backend& backend) {
  MEA_ASSIGN_OR_RETURN(Tensor placed,
                       backend.Allocate(std::span(host.shape).first(host.rank), host.dtype));
  backend.Upload(host, placed.view());
  MEA_RETURN_IF_ERROR(backend.Synchronize());
  return placed;
}

absl::Status PlaceTensors(const TensorList& list, const Unchecked& unchecked, int64_t bytes_total,
                          Backend& backend, const LoadProgress& progress, ModelWeights& weights) {
  MEA_ASSIGN_OR_RETURN(Uploader uploader, Uploader::Create(&backend, bytes_total, progress));
  for (const Run run : RunsOf(list)) {
    MEA_RETURN_IF_ERROR(MoveRun(run, unchecked, backend, uploader, weights));
  }
  return backend.Synchronize();
}

}  // namespace mea
