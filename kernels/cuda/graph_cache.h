#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <unordered_map>

#include "absl/functional/function_ref.h"
#include "kernels/cuda/runtime.h"

namespace mea::cuda {

// CUDA graphs of runs of ops (Backend::Run), by key. A key's first run calls its ops: kernels load
// and products choose their algorithms, which they may not while a graph is made. The second makes
// the graph, all later ones launch it again. Where there are more keys than graphs, the one unused
// for longest gives way and starts anew.
class GraphCache {
 public:
  GraphCache(Runtime* runtime, int max_graphs) : runtime_(runtime), max_graphs_(max_graphs) {}
  ~GraphCache() { Clear(); }
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  // A negative key never gets a graph.
  void Run(int64_t key, absl::FunctionRef<void()> ops);
  // Forgets all graphs: memory that they use is about to go.
  void Clear();

 private:
  struct Graph {
    cudaGraphExec_t exec = nullptr;  // null: run once, not yet made
    int64_t last_run = 0;
    int64_t num_bytes = 0;  // of device memory
  };

  cudaGraphExec_t Make(absl::FunctionRef<void()> ops);
  void Launch(const Graph& graph);
  void Destroy(Graph& graph);
  void EvictOldest();

  Runtime* const runtime_;
  const int max_graphs_;
  int64_t num_runs_ = 0;
  std::unordered_map<int64_t, Graph> graphs_;
};

}  // namespace mea::cuda
