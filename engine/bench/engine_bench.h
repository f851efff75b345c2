#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/bench/head_storage.h"
#include "engine/bench/report.h"
#include "engine/config/config.h"
#include "engine/model/model_weights.h"
#include "kernels/backend.h"

namespace mea {

using BackendFactory = std::function<absl::StatusOr<std::unique_ptr<Backend>>()>;
// Weights of this configuration, in host memory or in the back end's own.
using WeightsSource =
    std::function<absl::StatusOr<ModelWeights>(const ModelConfig&, HeadStorage, Backend&)>;
using RowObserver = std::function<void(const BenchRow&)>;

struct BenchOptions {
  std::string shape;  // its name in the report
  // The attention kernel, unless the back end chooses: "wgmma".
  std::string kernel;          // of decoding rows
  std::string prefill_kernel;  // of chunks
  // Measured together, round by round; each has its own back end.
  std::vector<HeadStorage> storages = {HeadStorage::kAsConfigured};
  std::vector<int> batches = {1, 8, 32};
  std::vector<int> contexts = {512, 2048};  // tokens that a decoding row sees
  // Prompt tokens of one sequence at once, after 0 and after each of `contexts` cached tokens; 0:
  // none.
  std::vector<int> prefill_chunks = {512};
  KvDTypes kv_dtype = DType::kBf16;
  int page_size = 64;
  RooflineSizes roofline;
  // The most bytes of all caches together; a point that needs more is reported as skipped. 0:
  // whatever the back end allocates.
  int64_t max_cache_bytes = 0;
  // The attention op alone reads this many bytes of cache before it reads any again: several times
  // any L2.
  int64_t beyond_caches_bytes = int64_t{256} << 20;
  int rounds = 5;
  double round_seconds = 0.1;  // at least one step
};

struct EngineBenchOptions : BenchOptions {
  // If not 0: also decode as many sequences of each context as a cache of this size holds.
  int64_t equal_memory_bytes = 0;
};

// A step to be timed: `tokens` rows of each of `batch` sequences, whose last row sees `context`
// tokens. Batch 0: as many sequences as the memory given holds.
struct StepPoint {
  int batch = 0;
  int context = 0;
  int tokens = 1;

  bool operator==(const StepPoint&) const = default;
};

// Models of one shape, as configured and as its twins, loaded and ready to repeat the same steps:
// forward pass, logits, drawn tokens. One thread.
class EngineBench {
 public:
  static absl::StatusOr<std::unique_ptr<EngineBench>> Create(const ModelConfig& config,
                                                             const EngineBenchOptions& options,
                                                             const BackendFactory& backends,
                                                             const WeightsSource& weights);
  virtual ~EngineBench() = default;

  // All points of the options: decode steps, then prefill.
  virtual const std::vector<StepPoint>& points() const = 0;
  // All rounds of one of them: a row for each storage. NOT_FOUND for any other point.
  virtual absl::StatusOr<std::vector<BenchRow>> Measure(const StepPoint& point) = 0;
};

// Measures every point once. `observer` gets every row as soon as it is there.
absl::StatusOr<std::vector<BenchRow>> BenchEngine(const ModelConfig& config,
                                                  const EngineBenchOptions& options,
                                                  const BackendFactory& backends,
                                                  const WeightsSource& weights,
                                                  const RowObserver& observer = {});

}  // namespace mea
