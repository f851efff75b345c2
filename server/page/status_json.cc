#include "server/page/status_json.h"

#include <string>

#include "engine/clock.h"
#include "server/build_info.h"

namespace mea {
namespace {

using openai::Json;

constexpr size_t kMaxShownIdBytes = 64;

Json ModelJson(const Serving& serving) {
  const ModelConfig& config = serving.engine.config();
  const EngineOptions& options = serving.engine.options();
  int64_t stored = 0;
  for (const LayerHeads& heads : config.layer_heads) stored += heads.key_heads + heads.value_heads;
  return {{"name", serving.model_name},
          {"family", config.base_model_type},
          {"composition", config.composition},
          {"num_layers", config.num_layers},
          {"stored_heads", stored},
          {"attended_heads", int64_t{2} * config.kv_heads * config.num_layers},
          {"weight_dtype", options.weight_dtype},
          {"kv_dtype", options.kv_dtype},
          {"max_context", serving.engine.max_context()},
          {"chats", serving.chat != nullptr}};
}

Json ServerJson(const Serving& serving) {
  const EngineOptions& options = serving.engine.options();
  return {{"state", std::string(ServingStateName(serving.readiness.state()))},
          {"version", Version()},
          {"build", Build()},
          {"device",
           options.device_name.empty() ? DeviceName(options.num_threads) : options.device_name},
          {"start_time", absl::ToUnixSeconds(serving.start_time)},
          {"time", absl::ToDoubleSeconds(Now() - absl::UnixEpoch())}};
}

Json CacheJson(const KvCacheStats& kv) {
  return {{"bytes_total", kv.total_bytes},
          {"bytes", kv.used_bytes},
          {"bytes_uncompressed", kv.used_bytes_uncompressed},
          {"bytes_cached", kv.cached_bytes},
          {"bytes_per_token", kv.bytes_per_token},
          {"bytes_per_token_uncompressed", kv.bytes_per_token_uncompressed},
          {"max_tokens", kv.max_tokens},
          {"prefix_queries", kv.prefix_queries},
          {"prefix_hits", kv.prefix_hits}};
}

Json MemoryJson(const MemoryPlan& plan, const BackendCounters& device) {
  return {{"weights", plan.weights_bytes},
          {"kv_cache", plan.kv_cache_bytes},
          {"workspace", plan.workspace_bytes},
          {"scratch", plan.scratch_bytes},
          {"graphs", device.graph_bytes}};
}

Json LoadJson(const EngineStats& stats) {
  return {{"running", stats.num_running},
          {"waiting", stats.num_waiting},
          {"waiting_tokens", stats.num_waiting_tokens},
          {"preemptions", stats.num_preemptions},
          {"prompt_tokens", stats.prompt_tokens},
          {"generation_tokens", stats.generation_tokens}};
}

Json BucketsJson(const LatencyBuckets& buckets) {
  return {{"bounds", buckets.bounds}, {"counts", buckets.counts}};
}

Json SequencesJson(const std::vector<SequenceInfo>& sequences) {
  Json list = Json::array();
  for (const SequenceInfo& sequence : sequences) {
    list.push_back({{"id", sequence.request_id.substr(0, kMaxShownIdBytes)},
                    {"completion", sequence.completion},
                    {"running", sequence.is_running},
                    {"prompt_tokens", sequence.prompt_tokens},
                    {"output_tokens", sequence.output_tokens},
                    {"bytes", sequence.kv_bytes},
                    {"bytes_uncompressed", sequence.kv_bytes_uncompressed}});
  }
  return list;
}

// A row for each sample: names would take most of the answer.
Json HistoryJson(const LoadHistory::Part& part) {
  Json rows = Json::array();
  for (const LoadSample& s : part.samples) {
    rows.push_back({absl::ToDoubleSeconds(s.time - absl::UnixEpoch()), s.used_bytes,
                    s.used_bytes_uncompressed, s.cached_bytes, s.num_running, s.num_waiting,
                    s.prompt_tokens, s.generation_tokens});
  }
  return {{"first", part.first},
          {"columns",
           {"time", "bytes", "bytes_uncompressed", "bytes_cached", "running", "waiting",
            "prompt_tokens", "generation_tokens"}},
          {"samples", std::move(rows)}};
}

}  // namespace

Json StatusJson(Serving& serving, const LoadHistory& history, int64_t after) {
  const EngineStats stats = serving.engine.stats();
  return {{"model", ModelJson(serving)},
          {"server", ServerJson(serving)},
          {"cache", CacheJson(stats.kv)},
          {"memory", MemoryJson(serving.engine.memory_plan(), stats.device)},
          {"load", LoadJson(stats)},
          {"time_to_first_token", BucketsJson(serving.metrics.first_token())},
          {"inter_token_latency", BucketsJson(serving.metrics.inter_token())},
          {"sequences", SequencesJson(serving.engine.ListSequences())},
          {"history", HistoryJson(history.After(after))}};
}

}  // namespace mea
