#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace mea::cuda {

// Makes the device the calling thread's current one; at first it is device 0 for every thread.
cudaError_t UseDevice(int device);

// One stream of one device, its memory, and the first error: after an error nothing that the device
// has computed can be trusted, so every later call does nothing and `status` says what went wrong.
// One thread drives it, not necessarily the one that created it.
class Runtime {
 public:
  // `synchronous`: waits for every op, so that an error names the op that caused it.
  static absl::StatusOr<std::unique_ptr<Runtime>> Create(int device, bool synchronous);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Before an op: makes the device the calling thread's. False after an error: nothing must be done
  // any more.
  bool Begin(std::string_view op);
  // Notes the result of a CUDA call of the current op; true if it succeeded.
  bool Check(cudaError_t error);
  // The same for a failure without a CUDA error: cuBLAS's.
  void Fail(std::string_view what);
  // After the last call of an op.
  void End();

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  // Waits for the stream.
  absl::Status Synchronize();
  // An event in the stream, and waiting for it. A slot (0 or 1) has one event, its last.
  void RecordEvent(int slot);
  absl::Status WaitEvent(int slot);

  // Zero-filled. RESOURCE_EXHAUSTED names the bytes asked for and those that are free; later calls
  // still work after it.
  absl::StatusOr<Tensor> AllocateDevice(std::span<const int64_t> shape, DType dtype);
  absl::StatusOr<Tensor> AllocatePinned(std::span<const int64_t> shape, DType dtype);

  DeviceMemory memory() const;

  // False after a failure, as Check.
  bool CopyBytes(const void* from, void* to, int64_t bytes, cudaMemcpyKind kind);
  // Both have one shape and dtype; matrices may have any row stride, everything else is dense.
  void Copy(TensorView from, TensorView to, cudaMemcpyKind kind);
  // Dense memory of another runtime's device, as Backend::Receive copies it.
  void Receive(Runtime& sender, TensorView from, TensorView to);

  cudaStream_t stream() const { return stream_; }
  int device() const { return device_; }
  bool makes_graph() const { return makes_graph_; }
  void set_makes_graph(bool makes_graph) { makes_graph_ = makes_graph; }
  BackendCounters& counters() { return counters_; }
  const BackendCounters& counters() const { return counters_; }

 private:
  Runtime(int device, bool synchronous) : device_(device), synchronous_(synchronous) {}
  absl::Status Start();
  absl::Status OutOfMemory(std::string_view what, int64_t bytes) const;
  // What is in this stream so far comes before all that `other` does from now on.
  void GoBefore(Runtime& other);

  const int device_;
  const bool synchronous_;
  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, 2> events_{};
  cudaEvent_t order_ = nullptr;  // of GoBefore
  bool makes_graph_ = false;     // ops go into a graph: nothing may wait or allocate
  std::string_view op_;          // string literals alone
  absl::Status status_;
  BackendCounters counters_;
};

}  // namespace mea::cuda
