#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/config/config.h"
#include "engine/model/model_weights.h"
#include "engine/request.h"
#include "kernels/backend_limits.h"
#include "kvcache/kv_cache.h"

namespace mea {

// If a field is 0 or "auto", the device decides: engine/device.h.
struct EngineOptions {
  std::string model_dir;
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:1", "cuda:0,1"; see ParseDevice
  std::vector<int>
      gpus;  // as resolved: their numbers, in the order of the layers; empty on the CPU
  std::string device_name;  // as resolved: of the GPU or GPUs, empty on the CPU
  std::string device_note;  // as resolved: why "auto" did not choose the GPU, if there is a reason
  std::vector<std::string> warnings;  // as resolved: Checkpoint::warnings, and of the weight cache
  // Random weights instead of the checkpoint's: model_dir needs only a config.json.
  bool random_weights = false;
  // The source of default sampling parameters. Empty: the checkpoint's generation_config.json;
  // "none"; or a file.
  std::string generation_config;
  // On a GPU: a request's logits do not change with its batch where kernels of our own compute
  // them, and are the same in every run.
  bool deterministic = false;
  int num_threads = 0;                // of the CPU back end; 0 = DefaultThreads()
  std::string cpu_affinity = "auto";  // "auto", "off", or a list of processors: thread_plan.h
  int num_clusters = 0;               // as resolved: groups of threads that share a cache
  std::string numa = "off";           // "off", "interleave", "local": engine/numa_placement.h
  std::string weight_dtype =
      "auto";                 // "auto" keeps the checkpoint's; "f32", "bf16", "int8", "int4"
  bool check_weights = true;  // refuse matrices that hold an infinity or NaN
  // A directory that keeps converted weights for the next start (weights/weight_cache.h), or empty.
  std::string weight_cache;
  std::string kv_dtype = "bf16";  // of keys and values, or "k=int8,v=bf16"; see kKvDTypes
  int page_size = 0;              // tokens per page
  // 0 = on the CPU what max_num_seqs full contexts need, at most what FitKvCache allows; on a GPU
  // what is left of gpu_memory_utilization.
  int64_t kv_cache_bytes = 0;
  double gpu_memory_utilization = 0.9;  // share of the GPU's memory that may be used, (0, 1]
  int max_context = 0;                  // tokens of prompt and output together; 0 = the model's own
  int max_num_seqs = 0;                 // sequences in one step
  int max_batch_tokens = 0;             // tokens in one step; a longer prompt is split into chunks
  // Of a step with decoding sequences: step_budget.h. Absent: a few times what it takes without
  // prompts; infinite: prompts fill every step.
  std::optional<absl::Duration> target_itl;
  int max_queued_requests = 1024;
  int max_queued_tokens = 1 << 20;  // of the prompts that wait; a single prompt may exceed it
  bool prefix_cache = true;         // prompts share the computed cache of a common beginning
};

// What one GPU has of a model.
struct DeviceShare {
  int gpu = 0;  // its number
  int num_layers = 0;
  int64_t weights_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t scratch_bytes = 0;
  int64_t graphs_bytes = 0;
};

// Bytes by purpose, as planned at start; of all devices together.
struct MemoryPlan {
  int64_t weights_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t kv_cache_bytes_uncompressed = 0;  // of the same tokens, all virtual heads in BF16
  int64_t workspace_bytes = 0;
  int64_t scratch_bytes = 0;         // of the back end
  int64_t max_sequences = 0;         // of max_context tokens that the cache holds
  int64_t graphs_bytes = 0;          // set aside for a device's graphs of decode steps, an estimate
  std::vector<DeviceShare> devices;  // in the order of their layers; empty on the CPU
};

// One sequence in flight, a completion of a request.
struct SequenceInfo {
  std::string request_id;
  int completion = 0;
  bool is_running = false;  // false: it waits for its turn
  int prompt_tokens = 0;
  int output_tokens = 0;
  int64_t kv_bytes = 0;  // cache memory it holds, in whole pages; others may share them
  int64_t kv_bytes_uncompressed = 0;  // the same pages, had all virtual heads been stored
};
inline constexpr int kMaxListedSequences = 64;

// A consistent snapshot, published by the engine thread after every step.
struct EngineStats {
  KvCacheStats kv;
  int num_running = 0;
  int num_waiting = 0;
  int64_t num_waiting_tokens = 0;  // of their prompts
  int64_t num_preemptions = 0;
  int64_t prompt_tokens = 0;      // computed, cache hits excluded
  int64_t generation_tokens = 0;  // drawn
  int64_t num_steps = 0;
  BackendCounters device;  // since the engine began; all 0 on the CPU
};

struct StepReport {
  int num_prefill_tokens = 0;
  int num_decode_tokens = 0;
  int prompt_budget = 0;  // prompt tokens that it was allowed
  absl::Time launched;
  double seconds = 0;  // from its launch, or the end of the previous step, to its end
};

using PrefixObserver = std::function<void(std::vector<PrefixEvent>)>;

// What the server sees of an engine. Thread-safe. Events reach a sink only after its Submit
// returned OK.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const GenerationDefaults& generation_defaults() const = 0;
  virtual const EngineOptions& options()
      const = 0;  // as resolved: no field is "auto" or 0 any more
  virtual MemoryPlan memory_plan() const = 0;
  virtual int max_context()
      const = 0;  // prompt and output tokens of one request, the cache's size respected

  // INVALID_ARGUMENT: a field out of range, or a request that can never fit (names field, value,
  // bound). ALREADY_EXISTS: the id is in flight. RESOURCE_EXHAUSTED: the queue is full,
  // or the deadline cannot be met; with reason and delay, see refusal.h. UNAVAILABLE: draining.
  // Never waits for a step.
  //
  // One completion of the prompt per sink, at most kMaxCompletions and max_num_seqs. The prompt is
  // computed once; completion i equals a separate request with seed + i.
  virtual absl::Status Submit(Request request, std::vector<std::shared_ptr<TokenSink>> sinks) = 0;
  absl::Status Submit(Request request, std::shared_ptr<TokenSink> sink) {
    return Submit(std::move(request), std::vector<std::shared_ptr<TokenSink>>{std::move(sink)});
  }
  // Ends all completions of the request, or one of them, with CANCELLED within one step; false when
  // no such request is in flight.
  virtual bool Cancel(std::string_view id, std::optional<int> completion = std::nullopt) = 0;
  // Refuses new requests, lets those in flight finish until the deadline, then ends the rest with
  // UNAVAILABLE. Returns when none is left.
  virtual void Drain(absl::Time deadline) = 0;

  // INTERNAL once the device has failed: every request has ended with it, and Submit refuses.
  virtual absl::Status health() const { return absl::OkStatus(); }

  // Forgets all cached prefixes within one step. Requests in flight keep what they hold.
  virtual void ClearPrefixCache() = 0;
  // Tells `observer` what the prefix cache gains and loses, step by step: first that it is cleared,
  // then what it holds already. Called on the engine thread; must not block. Takes the place of the
  // one before; null: nobody is told. The one before is not called after this returns, so an
  // observer must not call this. Where the prefix cache is off, nothing is told.
  virtual void ObservePrefixCache(PrefixObserver observer) = 0;

  virtual EngineStats stats() const = 0;
  // The sequences in flight a moment ago, running ones first, at most kMaxListedSequences. Lists
  // are made only while somebody asks every few seconds: the first answer is empty.
  virtual std::vector<SequenceInfo> ListSequences() = 0;
  // Time of the last sign of life of the engine thread (a layer of a step, or an idle wait).
  virtual absl::Time last_heartbeat() const = 0;
};

using StepObserver = std::function<void(const StepReport&)>;

// Loads the checkpoint and starts the engine thread. Blocks while loading.
absl::StatusOr<std::unique_ptr<Engine>> StartEngine(EngineOptions options,
                                                    LoadProgress progress = nullptr,
                                                    StepObserver observer = nullptr);

}  // namespace mea
