// Device, memory, kernels and errors of the CUDA runtime.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tests/simt/stream.h"

using mea::simt::MemoryKind;
using mea::simt::Runtime;
using Lock = std::lock_guard<std::recursive_mutex>;

namespace {

// Every function below starts so.
#define MEA_SIMT_ENTER(r)      \
  Runtime& r = Runtime::Get(); \
  const Lock lock(r.mutex);    \
  if (const cudaError_t entry_error = r.Enter()) return entry_error

bool IsDevice(const Runtime& r, const void* p, size_t bytes) {
  return r.memory.Contains(MemoryKind::kDevice, p, static_cast<int64_t>(bytes));
}
bool IsPinned(const Runtime& r, const void* p, size_t bytes) {
  return r.memory.Contains(MemoryKind::kPinned, p, static_cast<int64_t>(bytes));
}

struct Rows {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch;
  size_t width;
  size_t height;

  size_t to_bytes() const { return height == 0 ? 0 : (height - 1) * to_pitch + width; }
  size_t from_bytes() const { return height == 0 ? 0 : (height - 1) * from_pitch + width; }
  void Copy() const {
    for (size_t i = 0; i < height; ++i) {
      std::memmove(static_cast<std::byte*>(to) + i * to_pitch,
                   static_cast<const std::byte*>(from) + i * from_pitch, width);
    }
  }
  void PoisonDestination() const {
    for (size_t i = 0; i < height; ++i) {
      std::memset(static_cast<std::byte*>(to) + i * to_pitch, 0xff, width);
    }
  }
};

// Pageable memory is read before the call returns, and written before it returns; pinned memory
// when the stream gets there.
cudaError_t CopyAsync(Runtime& r, const Rows& rows, cudaMemcpyKind kind, cudaStream_t stream) {
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  const bool to_device = IsDevice(r, rows.to, rows.to_bytes());
  const bool from_device = IsDevice(r, rows.from, rows.from_bytes());
  const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (to_device != wants_to || from_device != wants_from)) {
    return r.Return(cudaErrorInvalidValue);
  }
  CUstream_st& queue = r.StreamOf(stream);
  if (queue.capture != nullptr) {
    r.Push(queue, {.run = [rows] { rows.Copy(); }});
    return cudaSuccess;
  }
  if (!from_device && !IsPinned(r, rows.from, rows.from_bytes())) {
    const auto* bytes = static_cast<const std::byte*>(rows.from);
    r.Push(queue, {.run = [rows, copy = std::vector<std::byte>(bytes, bytes + rows.from_bytes())] {
             Rows staged = rows;
             staged.from = copy.data();
             staged.Copy();
           }});
  } else {
    r.Push(queue, {.run = [rows] { rows.Copy(); }});
  }
  if (!to_device) {
    if (IsPinned(r, rows.to, rows.to_bytes())) {
      if (from_device) rows.PoisonDestination();
    } else {
      r.Drain(queue);
      return r.sticky_errors[queue.device];
    }
  }
  return cudaSuccess;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define MEA_SIMT_NAME(name) \
  case name:                \
    return #name
    MEA_SIMT_NAME(cudaSuccess);
    MEA_SIMT_NAME(cudaErrorInvalidValue);
    MEA_SIMT_NAME(cudaErrorMemoryAllocation);
    MEA_SIMT_NAME(cudaErrorInitializationError);
    MEA_SIMT_NAME(cudaErrorInvalidConfiguration);
    MEA_SIMT_NAME(cudaErrorInvalidMemcpyDirection);
    MEA_SIMT_NAME(cudaErrorInsufficientDriver);
    MEA_SIMT_NAME(cudaErrorInvalidDeviceFunction);
    MEA_SIMT_NAME(cudaErrorNoDevice);
    MEA_SIMT_NAME(cudaErrorInvalidDevice);
    MEA_SIMT_NAME(cudaErrorNoKernelImageForDevice);
    MEA_SIMT_NAME(cudaErrorInvalidResourceHandle);
    MEA_SIMT_NAME(cudaErrorNotReady);
    MEA_SIMT_NAME(cudaErrorIllegalAddress);
    MEA_SIMT_NAME(cudaErrorLaunchOutOfResources);
    MEA_SIMT_NAME(cudaErrorLaunchFailure);
    MEA_SIMT_NAME(cudaErrorNotSupported);
    MEA_SIMT_NAME(cudaErrorStreamCaptureUnsupported);
    MEA_SIMT_NAME(cudaErrorStreamCaptureInvalidated);
    MEA_SIMT_NAME(cudaErrorUnknown);
#undef MEA_SIMT_NAME
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : cudaGetErrorName(error);
}

cudaError_t cudaGetLastError() {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.last_error;
  r.last_error = r.sticky_errors[Runtime::CurrentDevice()];
  return error;
}

cudaError_t cudaPeekAtLastError() {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  return r.last_error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  MEA_SIMT_ENTER(r);
  *count = r.options.num_devices;
  return r.Return(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

// The errors are those of the device that is chosen, even where it is lost.
cudaError_t cudaSetDevice(int device) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  if (device < 0 || device >= r.options.num_devices) return r.Return(cudaErrorInvalidDevice);
  const int before = std::exchange(Runtime::CurrentDevice(), device);
  const cudaError_t error = r.Enter();
  if (error != cudaSuccess && error != r.sticky_errors[device]) Runtime::CurrentDevice() = before;
  return error;
}

cudaError_t cudaGetDevice(int* device) {
  MEA_SIMT_ENTER(r);
  *device = Runtime::CurrentDevice();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  MEA_SIMT_ENTER(r);
  if (device < 0 || device >= r.options.num_devices) return r.Return(cudaErrorInvalidDevice);
  const bool hopper = r.options.major >= 9;
  *properties = {.totalGlobalMem = static_cast<size_t>(r.options.memory_bytes),
                 .sharedMemPerBlock = 48 << 10,
                 .sharedMemPerBlockOptin = static_cast<size_t>(hopper ? 227 : 163) << 10,
                 .sharedMemPerMultiprocessor = static_cast<size_t>(hopper ? 228 : 164) << 10,
                 .warpSize = 32,
                 .maxThreadsPerBlock = 1024,
                 .major = r.options.major,
                 .minor = r.options.minor,
                 .multiProcessorCount = r.options.num_sms,
                 .l2CacheSize = 40 << 20};
  std::snprintf(properties->name, sizeof(properties->name), "emulated sm_%d%d", r.options.major,
                r.options.minor);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

cudaError_t cudaDeviceSynchronize() {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  r.DrainAll();
  return r.sticky_errors[Runtime::CurrentDevice()];
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  MEA_SIMT_ENTER(r);
  *total_bytes = static_cast<size_t>(r.options.memory_bytes);
  *free_bytes = *total_bytes - static_cast<size_t>(r.memory.device_bytes(Runtime::CurrentDevice()));
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** device, size_t bytes) {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  *device = nullptr;
  if (bytes == 0) return cudaSuccess;
  const int current = Runtime::CurrentDevice();
  if (r.memory.device_bytes(current) + static_cast<int64_t>(bytes) > r.options.memory_bytes) {
    return r.Return(cudaErrorMemoryAllocation);
  }
  *device = r.memory.Allocate(MemoryKind::kDevice, static_cast<int64_t>(bytes), current);
  return r.Return(*device == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// Freeing waits for the device, as the real one does, and works on a lost one.
static cudaError_t Free(MemoryKind kind, void* start) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.Enter();
  if (start == nullptr) return error;
  if (const cudaError_t refused = r.RefuseInCapture()) return refused;
  r.DrainAll();
  if (!r.memory.Free(kind, start)) return r.Return(cudaErrorInvalidValue);
  return error;
}

cudaError_t cudaFree(void* device) { return Free(MemoryKind::kDevice, device); }

cudaError_t cudaMallocHost(void** host, size_t bytes) {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  *host =
      bytes == 0 ? nullptr : r.memory.Allocate(MemoryKind::kPinned, static_cast<int64_t>(bytes));
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* host) { return Free(MemoryKind::kPinned, host); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  return CopyAsync(r, {to, bytes, from, bytes, bytes, 1}, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (width > to_pitch || width > from_pitch) return r.Return(cudaErrorInvalidValue);
  return CopyAsync(r, {to, to_pitch, from, from_pitch, width, height}, kind, stream);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  const auto size = static_cast<int64_t>(bytes);
  if (!r.memory.IsOn(to_device, to, size) || !r.memory.IsOn(from_device, from, size)) {
    return r.Return(cudaErrorInvalidValue);
  }
  r.Push(r.StreamOf(stream), {.run = [=, &r] {
           const mea::simt::Allocations::Access both(r.memory,
                                                     mea::simt::Allocations::Access::kAll);
           std::memmove(to, from, bytes);
         }});
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  if (const cudaError_t error = CopyAsync(r, {to, bytes, from, bytes, bytes, 1}, kind, nullptr)) {
    return error;
  }
  r.Drain(r.default_stream);
  return r.sticky_errors[r.default_stream.device];
}

cudaError_t cudaMemsetAsync(void* device, int value, size_t bytes, cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!IsDevice(r, device, bytes)) return r.Return(cudaErrorInvalidValue);
  r.Push(r.StreamOf(stream), {.run = [=] { std::memset(device, value, bytes); }});
  return cudaSuccess;
}

cudaError_t cudaMemset(void* device, int value, size_t bytes) {
  return cudaMemsetAsync(device, value, bytes, nullptr);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  int shared_limit = 0;
  cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  MEA_SIMT_ENTER(r);
  if (kernel == nullptr) return r.Return(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > shared_limit) {
    return r.Return(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, const void* kernel,
                                                          int num_threads, size_t shared_bytes) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, 0)) return error;
  if (kernel == nullptr || num_threads < 1) return cudaErrorInvalidValue;
  constexpr size_t kSystemBytes = 1024;  // of each block
  const size_t by_shared = p.sharedMemPerMultiprocessor / (shared_bytes + kSystemBytes);
  *num_blocks =
      static_cast<int>(std::min<size_t>({32, 2048u / static_cast<size_t>(num_threads), by_shared}));
  return cudaSuccess;
}
