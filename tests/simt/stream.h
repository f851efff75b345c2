#pragma once

// The state behind the runtime's functions: queues that run when the host waits for them.

#include <cuda_runtime_api.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "tests/simt/device_memory.h"
#include "tests/simt/grid_run.h"
#include "tests/simt/machine.h"

namespace mea::simt {

// One entry of a queue: a kernel, or anything else.
struct Work {
  std::function<void()> run;  // null for a kernel
  KernelLaunch launch{};
  std::shared_ptr<const std::function<void()>> body{};  // of each thread
};

}  // namespace mea::simt

using MeaSimtWork = mea::simt::Work;

struct CUgraph_st {
  std::vector<MeaSimtWork> work;
};
struct CUgraphExec_st {
  std::vector<MeaSimtWork> work;
};
struct CUstream_st {
  int device = 0;
  std::deque<MeaSimtWork> queue;
  int64_t num_queued = 0;  // ever
  int64_t num_done = 0;    // ever
  bool blocking = true;    // not cudaStreamNonBlocking
  // The kernel at the head of the queue, if it has run ahead of its time.
  std::unique_ptr<mea::simt::GridRun> head;
  std::unique_ptr<CUgraph_st> capture;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  bool capture_invalid = false;
};
struct CUevent_st {
  int device = 0;
  cudaStream_t stream = nullptr;  // where it was recorded last
  int64_t position = 0;           // in that stream, counted as num_queued
  std::chrono::steady_clock::time_point time;
};

namespace mea::simt {

// The emulated devices. All of it under one mutex; kernels run under it too.
struct Runtime {
  static Runtime& Get();
  // The calling thread's device.
  static int& CurrentDevice();

  // Counts a call and gives the error it must return at once, if any: the current device's.
  cudaError_t Enter();
  // Remembers an error for cudaGetLastError.
  cudaError_t Return(cudaError_t error);

  // The default stream has no object of its own at the interface. It is device 0's.
  CUstream_st& StreamOf(cudaStream_t stream) { return stream ? *stream : default_stream; }
  bool Knows(cudaStream_t stream) const { return !stream || streams.contains(stream); }
  bool IsCapturing() const;
  // What a call that a capture forbids returns: cudaSuccess when nobody captures.
  cudaError_t RefuseInCapture();

  void Push(CUstream_st& stream, MeaSimtWork work);
  // Runs the stream's work up to that position, and what it waits for in other streams.
  void Drain(CUstream_st& stream, int64_t position);
  void RunKernel(CUstream_st& stream, Work work, int64_t position);
  void Drain(CUstream_st& stream) { Drain(stream, stream.num_queued); }
  void DrainAll();

  std::recursive_mutex mutex;
  MachineOptions options;
  Allocations memory;
  CUstream_st default_stream;
  std::set<cudaStream_t> streams;
  int64_t num_events = 0;
  int64_t num_graphs = 0;
  int64_t num_calls = 0;
  int64_t num_kernels = 0;
  int64_t fail_call_in = -1;
  int64_t fail_kernel_in = -1;
  cudaError_t injected_call_error = cudaSuccess;
  cudaError_t injected_kernel_error = cudaSuccess;
  cudaError_t last_error = cudaSuccess;
  std::array<cudaError_t, kMaxDevices> sticky_errors{};  // of devices that are lost
};

}  // namespace mea::simt
