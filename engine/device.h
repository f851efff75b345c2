#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda_module.h"
#include "kernels/machine.h"
#include "kernels/thread_plan.h"

namespace mea {

// The defaults of an engine on a device, and the device's constraints.
struct DeviceDefaults {
  int page_size = 0;            // tokens
  int page_size_multiple = 0;   // every page size must be a multiple of it
  int max_num_seqs = 0;         // sequences in one step
  int max_batch_tokens = 0;     // tokens in one step
  DType compute = DType::kF32;  // activations
  DType wide = DType::kF32;     // residual and logits
  bool bf16_only = false;       // of weights and cache
};
const DeviceDefaults& DefaultsOf(Device device);
// INVALID_ARGUMENT, naming the flag, where the device cannot have pages of so many tokens.
absl::Status CheckPageSize(int page_size, Device device);
// INVALID_ARGUMENT unless it is "auto", "cpu" or "cuda".
absl::Status CheckDeviceName(const std::string& device);

// The part of a device's memory that an engine may use.
int64_t MemoryShare(int64_t total_bytes, double utilization);

// Threads of the CPU back end, as PlanThreads takes them.
struct CpuThreads {
  int count = 0;
  std::string affinity = "auto";
};

struct OpenedBackend {
  std::unique_ptr<Backend> backend;
  ThreadPlan threads;  // on a GPU, none
  std::string name;    // of the GPU; empty on the CPU
  std::string note;    // only for "auto": why it is not the GPU; empty if this build has no CUDA
};

// `device` is "cpu", "cuda", or "auto": the GPU if there is one, else the CPU. INVALID_ARGUMENT for
// any other, and for threads that cannot be; for "cuda" what OpenCudaBackend says.
absl::StatusOr<OpenedBackend> OpenBackend(const std::string& device, const CpuThreads& threads,
                                          const CudaOptions& cuda = {});

// "auto", "general", "mma" or "wgmma".
absl::StatusOr<CudaDecodeKernel> ParseDecodeKernel(const std::string& name);
// "auto", "mma" or "wgmma".
absl::StatusOr<CudaPrefillKernel> ParsePrefillKernel(const std::string& name);

}  // namespace mea
