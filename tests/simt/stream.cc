#include "tests/simt/stream.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "kernels/check.h"

namespace mea::simt {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

uint64_t DefaultSeed(uint64_t otherwise) {
  const char* text = std::getenv("MEA_SIMT_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

Runtime& Runtime::Get() {
  static Runtime& runtime = *[] {
    auto* made = new Runtime;  // outlives every static that frees device memory
    made->options.seed = DefaultSeed(made->options.seed);
    return made;
  }();
  return runtime;
}

int& Runtime::CurrentDevice() {
  thread_local int device = 0;
  return device;
}

cudaError_t Runtime::Enter() {
  ++num_calls;
  if (fail_call_in > 0 && --fail_call_in == 0) {
    fail_call_in = -1;
    return Return(injected_call_error);
  }
  return sticky_errors[CurrentDevice()];
}

cudaError_t Runtime::Return(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

bool Runtime::IsCapturing() const {
  if (default_stream.capture != nullptr) return true;
  for (const CUstream_st* stream : streams) {
    if (stream->capture != nullptr) return true;
  }
  return false;
}

cudaError_t Runtime::RefuseInCapture() {
  cudaError_t error = cudaSuccess;
  for (CUstream_st* stream : streams) {
    if (stream->capture == nullptr || stream->capture_mode == cudaStreamCaptureModeRelaxed)
      continue;
    stream->capture_invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return Return(error);
}

void Runtime::Push(CUstream_st& stream, MeaSimtWork work) {
  if (stream.capture != nullptr) {
    stream.capture->work.push_back(std::move(work));
    return;
  }
  // The default stream and the blocking ones wait for each other.
  if (&stream == &default_stream) {
    for (CUstream_st* other : streams) {
      if (other->blocking) Drain(*other);
    }
  } else if (stream.blocking) {
    Drain(default_stream);
  }
  stream.queue.push_back(std::move(work));
  ++stream.num_queued;
}

void Runtime::Drain(CUstream_st& stream, int64_t position) {
  if (stream.num_done >= position) return;
  const Allocations::Access access(memory, stream.device);
  while (stream.num_done < position) {
    MeaSimtWork work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.num_done;
    // Nothing happens any more on a lost device.
    if (sticky_errors[stream.device] != cudaSuccess) continue;
    if (work.run != nullptr) {
      work.run();
    } else {
      RunKernel(stream, std::move(work), position);
    }
  }
}

// The kernel after it in the queue starts when this one lets it, if both are to be drained.
void Runtime::RunKernel(CUstream_st& stream, Work work, int64_t position) {
  ++num_kernels;
  const std::unique_ptr<GridRun> ahead = std::move(stream.head);
  if (fail_kernel_in > 0 && --fail_kernel_in == 0) {
    sticky_errors[stream.device] = last_error = injected_kernel_error;
    return;
  }
  const auto make_run = [&](const Work& kernel, int64_t number) {
    return std::make_unique<GridRun>(
        Grid{.grid = kernel.launch.grid,
             .block = kernel.launch.block,
             .shared_bytes = kernel.launch.shared_bytes,
             .kernel = [](const void* f) { (*static_cast<const std::function<void()>*>(f))(); },
             .closure = kernel.body.get(),
             .seed = options.seed + static_cast<uint64_t>(number) * 1000003u,
             .overlaps_previous = kernel.launch.overlaps_previous && options.major >= 9,
             .sm90 = options.major >= 9});
  };
  const std::unique_ptr<GridRun> fresh = ahead == nullptr ? make_run(work, num_kernels) : nullptr;
  (ahead != nullptr ? ahead : fresh)->Run([&] {
    if (stream.num_done >= position) return;
    const Work& next = stream.queue.front();
    if (next.run != nullptr || !next.launch.overlaps_previous || options.major < 9) return;
    stream.head = make_run(next, num_kernels + 1);
    stream.head->RunAhead();
  });
  if (const void* start = memory.FindOverrun(stream.device)) {
    std::fprintf(stderr, "simt: kernel %lld wrote beside the allocation at %p\n",
                 static_cast<long long>(num_kernels), start);
    std::abort();
  }
}

bool IsGlobal(const void* address, int64_t bytes) {
  return Runtime::Get().memory.Contains(address, bytes);
}

void Runtime::DrainAll() {
  Drain(default_stream);
  for (CUstream_st* stream : streams) Drain(*stream);
}

void ResetMachine(const MachineOptions& options) {
  Runtime& runtime = Runtime::Get();
  const Lock lock(runtime.mutex);
  MEA_CHECK(NumLiveObjects() == 0 && options.num_devices <= kMaxDevices);
  runtime.options = options;
  if (options.seed == MachineOptions{}.seed) runtime.options.seed = DefaultSeed(options.seed);
  runtime.num_calls = runtime.num_kernels = 0;
  runtime.fail_call_in = runtime.fail_kernel_in = -1;
  runtime.last_error = cudaSuccess;
  runtime.sticky_errors.fill(cudaSuccess);
}

const MachineOptions& Machine() { return Runtime::Get().options; }

void SetSeed(uint64_t seed) { Runtime::Get().options.seed = seed; }

void FailCall(int64_t countdown, cudaError_t error) {
  Runtime& runtime = Runtime::Get();
  const Lock lock(runtime.mutex);
  runtime.fail_call_in = countdown;
  runtime.injected_call_error = error;
}

void FailKernel(int64_t countdown, cudaError_t error) {
  Runtime& runtime = Runtime::Get();
  const Lock lock(runtime.mutex);
  runtime.fail_kernel_in = countdown;
  runtime.injected_kernel_error = error;
}

int64_t NumCalls() { return Runtime::Get().num_calls; }
int64_t NumKernels() { return Runtime::Get().num_kernels; }

int64_t NumLiveObjects() {
  const Runtime& runtime = Runtime::Get();
  return runtime.memory.count() + static_cast<int64_t>(runtime.streams.size()) +
         runtime.num_events + runtime.num_graphs;
}

int64_t DeviceBytesInUse(int device) { return Runtime::Get().memory.device_bytes(device); }

static cudaError_t EnqueueWork(cudaStream_t stream, Work work) {
  Runtime& runtime = Runtime::Get();
  const Lock lock(runtime.mutex);
  if (const cudaError_t error = runtime.Enter()) return error;
  if (!runtime.Knows(stream)) return runtime.Return(cudaErrorInvalidResourceHandle);
  runtime.Push(runtime.StreamOf(stream), std::move(work));
  return cudaSuccess;
}

cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work) {
  return EnqueueWork(stream, {.run = std::move(work)});
}

cudaError_t LaunchKernel(const KernelLaunch& launch, std::function<void()> body) {
  Runtime& runtime = Runtime::Get();
  const Lock lock(runtime.mutex);
  const auto volume = [](dim3 d) { return uint64_t{d.x} * d.y * d.z; };
  const uint64_t num_threads = volume(launch.block);
  const bool fits = num_threads > 0 && num_threads <= 1024 && volume(launch.grid) > 0 &&
                    launch.grid.x < 1u << 31 && launch.grid.y < 1u << 16 &&
                    launch.grid.z < 1u << 16;
  int shared_limit = 0;
  cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  if (!fits) return runtime.Return(cudaErrorInvalidConfiguration);
  if (runtime.Knows(launch.stream) &&
      runtime.StreamOf(launch.stream).device != Runtime::CurrentDevice()) {
    return runtime.Return(cudaErrorInvalidResourceHandle);
  }
  if (launch.shared_bytes < 0 || launch.shared_bytes > shared_limit) {
    return runtime.Return(cudaErrorInvalidValue);
  }
  return EnqueueWork(launch.stream,
                     {.run = nullptr,
                      .launch = launch,
                      .body = std::make_shared<const std::function<void()>>(std::move(body))});
}

}  // namespace mea::simt
