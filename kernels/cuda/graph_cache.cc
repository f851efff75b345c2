#include "kernels/cuda/graph_cache.h"

#include <algorithm>
#include <utility>

namespace mea::cuda {

void GraphCache::Run(int64_t key, absl::FunctionRef<void()> ops) {
  BackendCounters& counters = runtime_->counters();
  const auto found = graphs_.find(key);
  if (key < 0 || max_graphs_ == 0 || found == graphs_.end()) {
    ++counters.eager_runs;
    ops();
    if (key < 0 || max_graphs_ == 0) return;
    if (std::ssize(graphs_) == max_graphs_) EvictOldest();
    graphs_[key].last_run = ++num_runs_;
    return;
  }
  Graph& graph = found->second;
  graph.last_run = ++num_runs_;
  if (graph.exec != nullptr) {
    ++counters.graph_replays;
    Launch(graph);
    return;
  }
  ++counters.eager_runs;
  const int64_t free_before = runtime_->memory().free_bytes;
  graph.exec = Make(ops);
  Launch(graph);
  // The driver puts a graph on the device when it is first launched.
  const int64_t free_after = runtime_->memory().free_bytes;
  if (free_after > 0) graph.num_bytes = std::max<int64_t>(free_before - free_after, 0);
  counters.graph_bytes += graph.num_bytes;
}

void GraphCache::Launch(const Graph& graph) {
  if (!runtime_->Begin("graph launch")) return;
  runtime_->Check(cudaGraphLaunch(graph.exec, runtime_->stream()));
  runtime_->End();
}

// Null if anything fails; the runtime keeps the error.
cudaGraphExec_t GraphCache::Make(absl::FunctionRef<void()> ops) {
  if (!runtime_->Begin("graph")) return nullptr;
  // Other threads may still call CUDA during the capture.
  if (!runtime_->Check(
          cudaStreamBeginCapture(runtime_->stream(), cudaStreamCaptureModeThreadLocal))) {
    return nullptr;
  }
  runtime_->set_makes_graph(true);
  ops();
  runtime_->set_makes_graph(false);
  runtime_->Begin("graph");
  // Ends the capture even if an op failed: the stream must be left as it was.
  cudaGraph_t graph = nullptr;
  runtime_->Check(cudaStreamEndCapture(runtime_->stream(), &graph));
  cudaGraphExec_t exec = nullptr;
  if (runtime_->ok()) {
    runtime_->Check(cudaGraphInstantiate(&exec, graph, 0));
    ++runtime_->counters().graphs;
  }
  if (graph != nullptr) runtime_->Check(cudaGraphDestroy(graph));
  return exec;
}

void GraphCache::Destroy(Graph& graph) {
  if (graph.exec == nullptr) return;
  // Freed in any state of the device; a failure to free does no harm.
  cudaGraphExecDestroy(graph.exec);
  graph.exec = nullptr;
  runtime_->counters().graph_bytes -= std::exchange(graph.num_bytes, 0);
}

void GraphCache::EvictOldest() {
  const auto oldest = std::min_element(
      graphs_.begin(), graphs_.end(),
      [](const auto& a, const auto& b) { return a.second.last_run < b.second.last_run; });
  // The graph may still be running.
  (void)runtime_->Synchronize();
  Destroy(oldest->second);
  graphs_.erase(oldest);
}

void GraphCache::Clear() {
  if (graphs_.empty()) return;
  (void)runtime_->Synchronize();
  for (auto& [key, graph] : graphs_) Destroy(graph);
  graphs_.clear();
}

}  // namespace mea::cuda
