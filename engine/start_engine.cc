#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"
#include "engine/device.h"
#include "engine/device_memory.h"
#include "engine/engine.h"
#include "engine/engine_loop.h"
#include "engine/host_memory.h"
#include "engine/load.h"
#include "engine/model/model_weights.h"
#include "engine/model/split_layers.h"
#include "engine/numa_placement.h"
#include "engine/sampling_defaults.h"
#include "engine/warm_up.h"
#include "kernels/machine.h"
#include "kernels/numa.h"
#include "kernels/status_macros.h"
#include "kernels/topology.h"

namespace mea {
namespace {

template <typename T>
absl::Status CheckOption(absl::string_view name, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, " ", value, " is outside ", low, "..", high));
}

absl::Status CheckOptions(const EngineOptions& o) {
  constexpr int kMaxBatchTokens = 1 << 16;
  for (const absl::Status& status : {
           CheckOption("page-size", o.page_size, 16, 1024),
           CheckOption("max-batch-tokens", o.max_batch_tokens, 1, kMaxBatchTokens),
           CheckOption("max-num-seqs", o.max_num_seqs, 1, kMaxBatchTokens),
           CheckOption("max-queued-requests", o.max_queued_requests, 1, 1 << 20),
           CheckOption("max-queued-tokens", o.max_queued_tokens, 1, 1 << 30),
           CheckOption("max-context", o.max_context, 0, 1 << 30),
           CheckOption("kv-cache-bytes", o.kv_cache_bytes, int64_t{0}, int64_t{1} << 50),
           CheckOption("gpu-memory-utilization", o.gpu_memory_utilization, 0.01, 1.0),
       }) {
    MEA_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

// The configuration of a model that is not loaded yet and, unless the weights are random, its
// tensors.
struct Source {
  ModelConfig config;
  GenerationDefaults generation;
  std::optional<Checkpoint> checkpoint;
};

absl::StatusOr<Source> ReadSource(const EngineOptions& options) {
  if (options.random_weights) {
    MEA_ASSIGN_OR_RETURN(ModelConfig config,
                         ReadModelConfig(std::filesystem::path(options.model_dir) / "config.json"));
    MEA_ASSIGN_OR_RETURN(
        GenerationDefaults generation,
        ReadGenerationDefaults(options.model_dir, config, options.generation_config));
    return Source{.config = std::move(config), .generation = std::move(generation)};
  }
  MEA_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                       OpenCheckpoint(options.model_dir, options.generation_config));
  return Source{.config = checkpoint.config,
                .generation = checkpoint.generation,
                .checkpoint = std::move(checkpoint)};
}

// Invalid defaults would refuse every request that does not set these fields.
absl::StatusOr<Source> OpenSource(const EngineOptions& options) {
  MEA_ASSIGN_OR_RETURN(Source source, ReadSource(options));
  const absl::Status status =
      ValidateSampling(DefaultSampling(source.generation), source.config.vocab_size);
  if (status.ok()) return source;
  return absl::InvalidArgumentError(
      absl::StrCat(source.generation.file, ": ", status.message(), "; see --generation-config"));
}

// The dtype that "auto" kept: that of the packed matrices or else of the embedding, which nearly
// all checkpoints use throughout.
std::string StoredWeightDType(const Source& source) {
  if (!source.checkpoint) return "bf16";
  if (source.config.packed) return std::string(DTypeName(DType::kI4));
  const StoredTensor* embedding = source.checkpoint->tensors.Find("model.embed_tokens.weight");
  const std::optional<DType> dtype =
      embedding == nullptr ? std::nullopt : LoadableDType(embedding->dtype);
  return dtype ? std::string(DTypeName(*dtype)) : "auto";
}

// What parts of the model would take on back ends as this one.
absl::StatusOr<StageCosts> CostsOf(const EngineOptions& options, const Source& source,
                                   const Backend& backend, const ModelLimits& limits,
                                   KvDTypes kv_dtype) {
  MEA_ASSIGN_OR_RETURN(const auto dtype,
                       WeightDTypeFor(options.weight_dtype, backend.weight_dtype()));
  return StageCosts(
      source.config, limits, kv_dtype, backend.device(),
      [&source, dtype](LayerRange layers) -> absl::StatusOr<int64_t> {
        if (source.checkpoint) {
          return PlannedWeightBytes(*source.checkpoint, layers, {.weight_dtype = dtype});
        }
        return PlannedRandomWeightBytes(source.config, layers, dtype.value_or(DType::kBf16));
      },
      [&backend](const BackendLimits& asked) { return backend.PlannedBytes(asked); });
}

// On the host it is known before loading. The default lets every sequence grow to the full context.
absl::StatusOr<int64_t> HostKvCacheBytes(const EngineOptions& options, const Source& source,
                                         const StageCosts& costs, const ModelLimits& limits,
                                         KvDTypes kv_dtype) {
  MEA_ASSIGN_OR_RETURN(const StageBytes bytes, costs.Of(AllLayers(source.config)));
  const KvLayout layout = MakeKvLayout(source.config, kv_dtype, limits);
  return FitKvCache({.weights_bytes = bytes.weights,
                     .workspace_bytes = bytes.workspace,
                     .page_bytes = layout.PageBytes(),
                     .wanted_bytes = layout.PagesFor(options.max_context) * options.max_num_seqs *
                                     layout.PageBytes(),
                     .asked_bytes = options.kv_cache_bytes},
                    ReadMachineLimits());
}

// The policy asked for, begun; on a machine of one node there is none. Before memory is taken, that
// of threads' stacks included.
absl::StatusOr<NumaPolicy> BeginNumaPolicy(EngineOptions& options) {
  MEA_ASSIGN_OR_RETURN(const NumaPolicy policy, ParseNumaPolicy(options.numa));
  if (policy == NumaPolicy::kOff) return policy;
  const std::vector<int> nodes = ReadTopology().memory_nodes;
  if (nodes.size() < 2) return NumaPolicy::kOff;
  const absl::Status status = InterleaveNewPages(nodes);
  if (!status.ok()) options.warnings.emplace_back(status.message());
  return policy;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> StartEngine(EngineOptions options, LoadProgress progress,
                                                    StepObserver observer) {
  MEA_ASSIGN_OR_RETURN(Source source, OpenSource(options));
  MEA_RETURN_IF_ERROR(SetContext("--max-context", options.max_context, source.config));
  options.max_context = source.config.max_position;
  if (source.checkpoint) source.checkpoint->config.max_position = options.max_context;

  if (source.checkpoint) options.warnings = source.checkpoint->warnings;
  MEA_ASSIGN_OR_RETURN(const NumaPolicy numa, BeginNumaPolicy(options));
  MEA_ASSIGN_OR_RETURN(
      OpenedBackends opened,
      OpenBackends(
          options.device, {.count = options.num_threads, .affinity = options.cpu_affinity},
          {.search_products = !options.deterministic, .batch_invariant = options.deterministic}));
  EngineParts parts;
  parts.backends = std::move(opened.backends);
  const Backend& backend = *parts.backends.front();
  options.device = std::string(backend.name());
  options.gpus = std::move(opened.gpus);
  options.device_name = std::move(opened.name);
  options.device_note = std::move(opened.note);
  const Device device = backend.device();
  const bool on_host = !backend.memory().has_value();
  MEA_ASSIGN_OR_RETURN(const KvDTypes kv_dtype, ParseKvDType(options.kv_dtype, device));
  MEA_RETURN_IF_ERROR(CheckKvDType(source.config, kv_dtype, device));
  options.kv_dtype = KvDTypesName(kv_dtype);
  MEA_ASSIGN_OR_RETURN(const ModelLimits limits,
                       ResolveLimits({.max_batch_tokens = options.max_batch_tokens,
                                      .max_num_seqs = options.max_num_seqs,
                                      .page_size = options.page_size,
                                      .kv_dtype = kv_dtype},
                                     device));
  options.max_batch_tokens = limits.max_batch_tokens;
  options.max_num_seqs = limits.max_num_seqs;
  options.page_size = limits.page_size;
  if (options.num_threads == 0) options.num_threads = DefaultThreads();
  if (on_host) options.num_threads = opened.threads.num_threads();
  options.num_clusters = opened.threads.num_clusters();
  MEA_RETURN_IF_ERROR(CheckOptions(options));

  MEA_ASSIGN_OR_RETURN(const StageCosts costs, CostsOf(options, source, backend, limits, kv_dtype));
  if (on_host) {
    MEA_ASSIGN_OR_RETURN(options.kv_cache_bytes,
                         HostKvCacheBytes(options, source, costs, limits, kv_dtype));
  }
  MEA_ASSIGN_OR_RETURN(const std::vector<StagePlace> places,
                       PlaceStages(costs, parts.backends, options.gpu_memory_utilization));
  const auto warn = [&](std::string text) { options.warnings.push_back(std::move(text)); };
  MEA_ASSIGN_OR_RETURN(
      parts.model,
      source.checkpoint
          ? LoadModel(*source.checkpoint, options.weight_dtype, places, limits, progress,
                      {.check_matrices = options.check_weights,
                       .weight_cache = options.weight_cache,
                       .warn = warn})
          : MakeRandomModel(source.config, options.weight_dtype, options.num_threads, places,
                            limits, progress));

  if (numa == NumaPolicy::kLocal && on_host) {
    MoveRowsToNodes(source.config, parts.model->weights(), opened.threads, MovePages);
  }

  const KvLayout layout = parts.model->MakeKvLayout(kv_dtype, options.page_size);
  if (options.kv_cache_bytes == 0) {
    MEA_ASSIGN_OR_RETURN(options.kv_cache_bytes,
                         DeviceKvCacheBytes(*parts.model, layout, options.gpu_memory_utilization));
  }
  if (progress) progress("memory of the KV cache", 0, options.kv_cache_bytes);
  if (on_host) parts.kv_memory = std::make_unique<LateMemory>();
  MEA_ASSIGN_OR_RETURN(parts.kv, CreateKvCache(parts.model->backends(), layout,
                                               options.kv_cache_bytes, parts.kv_memory.get()));
  if (on_host) parts.kv_memory->Start();
  if (options.prefix_cache) parts.kv->EnablePrefixCache();
  MEA_RETURN_IF_ERROR(WarmUp(*parts.model, *parts.kv, progress));

  if (options.weight_dtype == "auto") {
    const std::optional<DType> needed = backend.weight_dtype();
    options.weight_dtype = needed ? std::string(DTypeName(*needed)) : StoredWeightDType(source);
  }
  parts.generation = source.generation;
  parts.options = std::move(options);
  return std::make_unique<EngineLoop>(std::move(parts), std::move(observer));
}

}  // namespace mea
