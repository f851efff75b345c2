#pragma once

// The emulated devices as a test sees them, all alike: what they are, and what is to go wrong.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

namespace mea::simt {

struct MachineOptions {
  int num_sms = 4;
  int major = 9;  // compute capability: 9.0 or 8.0
  int minor = 0;
  int64_t memory_bytes = int64_t{1} << 30;  // of each
  int num_devices = 1;
  // Orders of threads and blocks follow from it and from the number of the launch.
  uint64_t seed = 1;
};

// Starts afresh: forgets injected failures and errors. Nothing may be allocated or queued. The
// environment's MEA_SIMT_SEED, if set, takes the place of the default seed.
void ResetMachine(const MachineOptions& options = {});
const MachineOptions& Machine();
void SetSeed(uint64_t seed);

// The `countdown`-th runtime or cuBLASLt call from now (1: the next) does nothing and returns
// `error`; -1 switches it off. NumCalls counts the calls since ResetMachine.
void FailCall(int64_t countdown, cudaError_t error);
int64_t NumCalls();
// The `countdown`-th kernel run from now fails as a kernel that touched a wrong address does:
// its device's calls return `error` from the next synchronisation on. Other devices work on.
void FailKernel(int64_t countdown, cudaError_t error);
int64_t NumKernels();

// Allocations of cudaMalloc and cudaMallocHost not yet freed, and the streams, events and graphs
// not yet destroyed.
int64_t NumLiveObjects();
int64_t DeviceBytesInUse(int device = 0);

// ---- For the device headers.

// Whether a kernel may touch those bytes: memory of cudaMalloc or cudaMallocHost.
bool IsGlobal(const void* address, int64_t bytes);

// Queues kernel threads of body() on the stream; as cudaLaunchKernelEx.
struct KernelLaunch {
  dim3 grid;
  dim3 block;
  int shared_bytes;
  cudaStream_t stream;
  bool overlaps_previous;
};
cudaError_t LaunchKernel(const KernelLaunch& launch, std::function<void()> body);

// Queues `work` on the stream, or adds it to the graph the stream captures.
cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace mea::simt
