// Streams, events and graphs of the CUDA runtime.

#include <cuda_runtime_api.h>

#include <utility>

#include "tests/simt/stream.h"

using mea::simt::Runtime;
using Lock = std::lock_guard<std::recursive_mutex>;

#define MEA_SIMT_ENTER(r)      \
  Runtime& r = Runtime::Get(); \
  const Lock lock(r.mutex);    \
  if (const cudaError_t entry_error = r.Enter()) return entry_error

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  MEA_SIMT_ENTER(r);
  *stream = new CUstream_st;
  (*stream)->device = Runtime::CurrentDevice();
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  r.streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.Enter();
  if (stream == nullptr || !r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  r.Drain(*stream);
  r.streams.erase(stream);
  delete stream;
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  r.Drain(r.StreamOf(stream));
  return r.sticky_errors[r.StreamOf(stream).device];
}

// Work may run at any time; asking is such a time.
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return mea::simt::Enqueue(stream, [=] { function(data); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  MEA_SIMT_ENTER(r);
  *event = new CUevent_st;
  (*event)->device = Runtime::CurrentDevice();
  ++r.num_events;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.Enter();
  if (event == nullptr) return r.Return(cudaErrorInvalidResourceHandle);
  // A recording still queued writes to the event.
  if (r.Knows(event->stream)) r.Drain(r.StreamOf(event->stream), event->position);
  delete event;
  --r.num_events;
  return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (event == nullptr || !r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  CUstream_st& queue = r.StreamOf(stream);
  if (event->device != queue.device) return r.Return(cudaErrorInvalidResourceHandle);
  // Forked captures are not modelled.
  if (queue.capture != nullptr) return r.Return(cudaErrorStreamCaptureUnsupported);
  r.Push(queue, {.run = [event] { event->time = std::chrono::steady_clock::now(); }});
  event->stream = stream;
  event->position = queue.num_queued;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  MEA_SIMT_ENTER(r);
  if (event == nullptr || !r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (r.StreamOf(stream).capture != nullptr) return r.Return(cudaErrorStreamCaptureUnsupported);
  r.Push(r.StreamOf(stream), {.run = [&r, other = event->stream, position = event->position] {
           if (r.Knows(other)) r.Drain(r.StreamOf(other), position);
         }});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  MEA_SIMT_ENTER(r);
  if (const cudaError_t error = r.RefuseInCapture()) return error;
  if (event == nullptr) return r.Return(cudaErrorInvalidResourceHandle);
  if (r.Knows(event->stream)) r.Drain(r.StreamOf(event->stream), event->position);
  return r.sticky_errors[event->device];
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  MEA_SIMT_ENTER(r);
  if (start == nullptr || end == nullptr) return r.Return(cudaErrorInvalidResourceHandle);
  for (const CUevent_st* event : {start, end}) {
    if (r.StreamOf(event->stream).num_done < event->position) return cudaErrorNotReady;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  MEA_SIMT_ENTER(r);
  if (stream == nullptr) return r.Return(cudaErrorStreamCaptureUnsupported);
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return r.Return(cudaErrorInvalidValue);
  stream->capture = std::make_unique<CUgraph_st>();
  stream->capture_mode = mode;
  stream->capture_invalid = false;
  return cudaSuccess;
}

// Ends the capture even where it fails.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t entry_error = r.Enter();
  *graph = nullptr;
  if (stream == nullptr || !r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  if (stream->capture == nullptr) return r.Return(cudaErrorInvalidValue);
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
  if (entry_error != cudaSuccess) return entry_error;
  if (stream->capture_invalid) return r.Return(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st(std::move(*captured));
  ++r.num_graphs;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  MEA_SIMT_ENTER(r);
  if (!r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  const CUstream_st& queue = r.StreamOf(stream);
  *status = queue.capture == nullptr ? cudaStreamCaptureStatusNone
            : queue.capture_invalid  ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  MEA_SIMT_ENTER(r);
  if (graph == nullptr) return r.Return(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{graph->work};
  ++r.num_graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* num_nodes) {
  MEA_SIMT_ENTER(r);
  // Nodes have no objects of their own here.
  if (graph == nullptr || nodes != nullptr) return r.Return(cudaErrorInvalidValue);
  *num_nodes = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  MEA_SIMT_ENTER(r);
  if (exec == nullptr || !r.Knows(stream)) return r.Return(cudaErrorInvalidResourceHandle);
  for (const MeaSimtWork& work : exec->work) r.Push(r.StreamOf(stream), work);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.Enter();
  if (exec == nullptr) return r.Return(cudaErrorInvalidValue);
  delete exec;
  --r.num_graphs;
  return error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Runtime& r = Runtime::Get();
  const Lock lock(r.mutex);
  const cudaError_t error = r.Enter();
  if (graph == nullptr) return r.Return(cudaErrorInvalidValue);
  delete graph;
  --r.num_graphs;
  return error;
}
