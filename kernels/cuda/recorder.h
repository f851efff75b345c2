#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <unordered_map>

#include "absl/functional/function_ref.h"
#include "kernels/cuda/runtime.h"

namespace mea::cuda {

// Records of runs of ops as CUDA graphs (Backend::Run). A key's first run calls its ops: kernels
// are loaded and products choose their algorithms, which must not happen while recording. The
// second records them, all later ones replay the record. If there are more keys than records, the
// least recently used record is dropped, and its key starts over.
class Recorder {
 public:
  Recorder(Runtime* runtime, int max_records) : runtime_(runtime), max_records_(max_records) {}
  ~Recorder() { Clear(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // A negative key is never recorded.
  void Run(int64_t key, absl::FunctionRef<void()> ops);
  // Drops all records, because memory that they use is about to be freed.
  void Clear();

 private:
  struct Record {
    cudaGraphExec_t graph = nullptr;  // null: run once, not yet recorded
    int64_t last_run = 0;
    int64_t num_bytes = 0;  // of device memory
  };

  cudaGraphExec_t Capture(absl::FunctionRef<void()> ops);
  void Launch(const Record& record);
  void Destroy(Record& record);
  void EvictOldest();

  Runtime* const runtime_;
  const int max_records_;
  int64_t num_runs_ = 0;
  std::unordered_map<int64_t, Record> records_;
};

}  // namespace mea::cuda
