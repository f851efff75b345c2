#include "kernels/cuda/runtime.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea::cuda {
namespace {

// Tensors without elements still have an address: a null pointer means "absent".
constexpr int64_t kLeastBytes = 16;

std::string Describe(cudaError_t error) {
  return absl::StrCat(cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
}

int64_t NumBytes(std::span<const int64_t> shape, DType dtype) {
  int64_t bytes = DTypeSize(dtype);
  for (const int64_t extent : shape) bytes *= extent;
  return bytes;
}

}  // namespace

cudaError_t UseDevice(int device) {
  thread_local int current = -1;
  if (current == device) return cudaSuccess;
  const cudaError_t error = cudaSetDevice(device);
  current = error == cudaSuccess ? device : -1;
  return error;
}

absl::StatusOr<std::unique_ptr<Runtime>> Runtime::Create(int device, bool synchronous) {
  std::unique_ptr<Runtime> runtime(new Runtime(device, synchronous));
  MEA_RETURN_IF_ERROR(runtime->Start());
  return runtime;
}

absl::Status Runtime::Start() {
  if (!Begin("start")) return status_;
  // Not joined to the default stream, which nothing here uses.
  Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  for (cudaEvent_t& event : events_) {
    Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  Check(cudaEventCreateWithFlags(&order_, cudaEventDisableTiming));
  return status_;
}

Runtime::~Runtime() {
  for (cudaEvent_t event : events_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (order_ != nullptr) cudaEventDestroy(order_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

bool Runtime::Begin(std::string_view op) {
  if (!status_.ok()) return false;
  op_ = op;
  return Check(UseDevice(device_));
}

bool Runtime::Check(cudaError_t error) {
  if (error == cudaSuccess) return status_.ok();
  Fail(Describe(error));
  return false;
}

void Runtime::Fail(std::string_view what) {
  if (!status_.ok()) return;
  status_ = absl::InternalError(absl::StrCat("CUDA device ", device_, ": ",
                                             absl::string_view(op_.data(), op_.size()), ": ",
                                             absl::string_view(what.data(), what.size())));
}

void Runtime::End() {
  if (synchronous_ && !makes_graph_ && status_.ok()) Check(cudaStreamSynchronize(stream_));
}

absl::Status Runtime::Synchronize() {
  // An error found here belongs to an earlier op; op_ names the latest of them.
  if (status_.ok() && stream_ != nullptr) Check(cudaStreamSynchronize(stream_));
  return status_;
}

void Runtime::RecordEvent(int slot) {
  if (!Begin("RecordEvent")) return;
  Check(cudaEventRecord(events_[slot], stream_));
  End();
}

absl::Status Runtime::WaitEvent(int slot) {
  if (status_.ok()) Check(cudaEventSynchronize(events_[slot]));
  return status_;
}

DeviceMemory Runtime::memory() const {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  // Not part of an op: if the query fails, no memory is reported.
  if (UseDevice(device_) == cudaSuccess) cudaMemGetInfo(&free_bytes, &total_bytes);
  return {.total_bytes = static_cast<int64_t>(total_bytes),
          .free_bytes = static_cast<int64_t>(free_bytes)};
}

absl::Status Runtime::OutOfMemory(std::string_view what, int64_t bytes) const {
  cudaGetLastError();  // otherwise the next call would report it again
  const auto [total_bytes, free_bytes] = memory();
  return absl::ResourceExhaustedError(absl::StrCat(
      "CUDA device ", device_, ": no ", absl::string_view(what.data(), what.size()), " of ", bytes,
      " bytes; ", free_bytes, " of ", total_bytes, " bytes of the device are free"));
}

absl::StatusOr<Tensor> Runtime::AllocateDevice(std::span<const int64_t> shape, DType dtype) {
  if (!Begin("Allocate")) return status_;
  const int64_t bytes = std::max(NumBytes(shape, dtype), kLeastBytes);
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) return OutOfMemory("device memory", bytes);
  if (!Check(error)) return status_;
  std::shared_ptr<void> owner(memory, [](void* p) { cudaFree(p); });
  ++counters_.allocations;
  if (!Check(cudaMemsetAsync(memory, 0, bytes, stream_))) return status_;
  End();
  return Tensor(TensorView::Dense(memory, dtype, shape, Device::kCuda), std::move(owner));
}

absl::StatusOr<Tensor> Runtime::AllocatePinned(std::span<const int64_t> shape, DType dtype) {
  if (!Begin("AllocateHost")) return status_;
  const int64_t bytes = std::max(NumBytes(shape, dtype), kLeastBytes);
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) return OutOfMemory("pinned host memory", bytes);
  if (!Check(error)) return status_;
  std::shared_ptr<void> owner(memory, [](void* p) { cudaFreeHost(p); });
  ++counters_.allocations;
  std::memset(memory, 0, bytes);
  return Tensor(TensorView::Dense(memory, dtype, shape), std::move(owner));
}

bool Runtime::CopyBytes(const void* from, void* to, int64_t bytes, cudaMemcpyKind kind) {
  return bytes == 0 || Check(cudaMemcpyAsync(to, from, bytes, kind, stream_));
}

void Runtime::Copy(TensorView from, TensorView to, cudaMemcpyKind kind) {
  MEA_CHECK(from.rank == to.rank && from.shape == to.shape && from.dtype == to.dtype);
  const int64_t size = DTypeSize(from.dtype);
  const int64_t bytes = from.num_elements() * size;
  if (bytes == 0) return;
  if (from.is_dense() && to.is_dense()) {
    CopyBytes(from.data, to.data, bytes, kind);
  } else {
    MEA_CHECK(from.rank == 2);
    Check(cudaMemcpy2DAsync(to.data, to.stride[0] * size, from.data, from.stride[0] * size,
                            from.shape[1] * size, from.shape[0], kind, stream_));
  }
}

void Runtime::GoBefore(Runtime& other) {
  if (Begin("Receive")) Check(cudaEventRecord(order_, stream_));
  // Takes the event as it is now: it may be recorded again at once.
  if (ok() && other.Begin("Receive")) other.Check(cudaStreamWaitEvent(other.stream_, order_, 0));
}

void Runtime::Receive(Runtime& sender, TensorView from, TensorView to) {
  sender.GoBefore(*this);
  if (!sender.ok()) Fail(std::string(sender.status().message()));
  const int64_t bytes = from.num_elements() * DTypeSize(from.dtype);
  if (!Begin("Receive") || bytes == 0) return;
  Check(cudaMemcpyPeerAsync(to.data, device_, from.data, sender.device_, bytes, stream_));
  GoBefore(sender);
}

}  // namespace mea::cuda
