#pragma once

#include <memory>
#include <string>
#include <vector>

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
// What --device says: "auto", "cpu", "cuda" (the first GPU), "cuda:1", or several as "cuda:0,1".
struct DeviceChoice {
  std::string kind;             // "auto", "cpu", "cuda"
  std::vector<int> gpus = {0};  // as the driver counts them, in the order of the layers
};
// INVALID_ARGUMENT for anything else.
absl::StatusOr<DeviceChoice> ParseDevice(const std::string& device);

// The part of a device's memory that an engine may use.
int64_t MemoryShare(int64_t total_bytes, double utilization);

// Threads of the CPU back end, as PlanThreads takes them.
struct CpuThreads {
  int count = 0;
  std::string affinity = "auto";
};

struct OpenedBackends {
  std::vector<std::unique_ptr<Backend>> backends;
  ThreadPlan threads;     // on a GPU, none
  std::vector<int> gpus;  // numbers of the GPUs, and their names; empty on the CPU
  std::string name;
  std::string note;  // only for "auto": why it is not the GPU; empty if this build has no CUDA
};

// For `device` as ParseDevice reads it; "auto": the first GPU if there is one, else the CPU.
// INVALID_ARGUMENT for any other, for threads that cannot be, and for GPUs that are not alike; for
// "cuda" what OpenCudaBackend says.
absl::StatusOr<OpenedBackends> OpenBackends(const std::string& device, const CpuThreads& threads,
                                            const CudaOptions& cuda = {});

// "auto", "general", "mma" or "wgmma".
absl::StatusOr<CudaDecodeKernel> ParseDecodeKernel(const std::string& name);
// "auto", "mma" or "wgmma".
absl::StatusOr<CudaPrefillKernel> ParsePrefillKernel(const std::string& name);

}  // namespace mea
