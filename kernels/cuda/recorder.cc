#include "kernels/cuda/recorder.h"

#include <algorithm>
#include <utility>

namespace mea::cuda {

void Recorder::Run(int64_t key, absl::FunctionRef<void()> ops) {
  BackendCounters& counters = runtime_->counters();
  const auto found = records_.find(key);
  if (key < 0 || max_records_ == 0 || found == records_.end()) {
    ++counters.eager_runs;
    ops();
    if (key < 0 || max_records_ == 0) return;
    if (std::ssize(records_) == max_records_) EvictOldest();
    records_[key].last_run = ++num_runs_;
    return;
  }
  Record& record = found->second;
  record.last_run = ++num_runs_;
  if (record.graph != nullptr) {
    ++counters.replays;
    Launch(record);
    return;
  }
  ++counters.eager_runs;
  const int64_t free_before = runtime_->memory().free_bytes;
  record.graph = Capture(ops);
  Launch(record);
  // The driver puts a graph on the device when it is first launched.
  const int64_t free_after = runtime_->memory().free_bytes;
  if (free_after > 0) record.num_bytes = std::max<int64_t>(free_before - free_after, 0);
  counters.record_bytes += record.num_bytes;
}

void Recorder::Launch(const Record& record) {
  if (!runtime_->Begin("replay")) return;
  runtime_->Check(cudaGraphLaunch(record.graph, runtime_->stream()));
  runtime_->End();
}

// Null where anything fails, which the runtime remembers.
cudaGraphExec_t Recorder::Capture(absl::FunctionRef<void()> ops) {
  if (!runtime_->Begin("record")) return nullptr;
  // Other threads may go on calling CUDA meanwhile.
  if (!runtime_->Check(
          cudaStreamBeginCapture(runtime_->stream(), cudaStreamCaptureModeThreadLocal))) {
    return nullptr;
  }
  runtime_->set_capturing(true);
  ops();
  runtime_->set_capturing(false);
  runtime_->Begin("record");
  // Ends the capture even if an op failed: the stream must be left as it was.
  cudaGraph_t graph = nullptr;
  runtime_->Check(cudaStreamEndCapture(runtime_->stream(), &graph));
  cudaGraphExec_t exec = nullptr;
  if (runtime_->ok()) {
    runtime_->Check(cudaGraphInstantiate(&exec, graph, 0));
    ++runtime_->counters().records;
  }
  if (graph != nullptr) runtime_->Check(cudaGraphDestroy(graph));
  return exec;
}

void Recorder::Destroy(Record& record) {
  if (record.graph == nullptr) return;
  // Freed whatever the state of the device; a failure of that alone spoils nothing.
  cudaGraphExecDestroy(record.graph);
  record.graph = nullptr;
  runtime_->counters().record_bytes -= std::exchange(record.num_bytes, 0);
}

void Recorder::EvictOldest() {
  const auto oldest = std::min_element(
      records_.begin(), records_.end(),
      [](const auto& a, const auto& b) { return a.second.last_run < b.second.last_run; });
  // It may still run.
  (void)runtime_->Synchronize();
  Destroy(oldest->second);
  records_.erase(oldest);
}

void Recorder::Clear() {
  if (records_.empty()) return;
  (void)runtime_->Synchronize();
  for (auto& [key, record] : records_) Destroy(record);
  records_.clear();
}

}  // namespace mea::cuda
