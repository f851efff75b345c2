#include "engine/sampling_defaults.h"
#include "server/build_info.h"
#include "server/limits.h"
#include "server/proto_convert.h"
#include "server/ratio.h"
#include "server/request_ranges.h"

namespace mea {
namespace {

void CompositionToProto(const ModelConfig& config, v1::HeadComposition& to) {
  to.set_kind(config.composition);
  for (const LayerHeads& heads : config.layer_heads) {
    to.add_component_key_heads(heads.key_heads);
    to.add_component_value_heads(heads.value_heads);
  }
  to.set_composite_heads(config.kv_heads);
  to.set_head_norm(config.head_norm == HeadNorm::kRms ? "rms" : "none");
}

void CacheToProto(const Engine& engine, v1::CacheInfo& to) {
  const KvCacheStats kv = engine.stats().kv;
  to.set_dtype(engine.options().kv_dtype);
  to.set_page_size(kv.page_size);
  to.set_num_pages(kv.num_pages);
  to.set_total_bytes(kv.total_bytes);
  to.set_bytes_per_token(kv.bytes_per_token);
  to.set_bytes_per_token_uncompressed(kv.bytes_per_token_uncompressed);
  to.set_compression_ratio(Ratio(kv.bytes_per_token, kv.bytes_per_token_uncompressed));
  to.set_max_tokens(kv.max_tokens);
}

void MemoryToProto(const Engine& engine, v1::MemoryInfo& to) {
  const MemoryPlan plan = engine.memory_plan();
  to.set_weights_bytes(plan.weights_bytes);
  to.set_kv_cache_bytes(plan.kv_cache_bytes);
  to.set_kv_cache_bytes_uncompressed(plan.kv_cache_bytes_uncompressed);
  to.set_workspace_bytes(plan.workspace_bytes);
  to.set_scratch_bytes(plan.scratch_bytes);
  to.set_graphs_bytes(plan.graphs_bytes);
  to.set_graphs_bytes_used(engine.stats().device.graph_bytes);
}

void LimitsToProto(const Engine& engine, v1::Limits& to) {
  to.set_max_request_bytes(kMaxRequestBytes);
  to.set_max_prompt_bytes(kMaxPromptBytes);
  to.set_max_context(engine.max_context());
  to.set_max_stop_strings(kMaxStopStrings);
  to.set_max_stop_string_bytes(kMaxStopStringBytes);
  to.set_max_stop_token_ids(kMaxStopTokenIds);
  to.set_max_logit_bias(kMaxLogitBias);
  to.set_max_request_id_bytes(kMaxRequestIdBytes);
  to.set_max_queued_requests(engine.options().max_queued_requests);
  to.set_max_queued_tokens(engine.options().max_queued_tokens);
  to.set_max_num_seqs(engine.options().max_num_seqs);
  to.set_max_unread_bytes(kMaxUnreadBytes);
  to.set_max_echo_bytes(kMaxEchoBytes);
}

void DefaultsToProto(const GenerationDefaults& defaults, v1::GetModelInfoResponse& to) {
  const SamplingParams from = DefaultSampling(defaults);
  v1::SamplingParams& sampling = *to.mutable_default_sampling();
  sampling.set_temperature(from.temperature);
  sampling.set_top_k(from.top_k);
  sampling.set_top_p(from.top_p);
  sampling.set_min_p(from.min_p);
  sampling.set_repetition_penalty(from.repetition_penalty);
  sampling.set_presence_penalty(from.presence_penalty);
  sampling.set_frequency_penalty(from.frequency_penalty);
  sampling.set_n(1);
  v1::StoppingParams& stopping = *to.mutable_default_stopping();
  if (defaults.max_new_tokens) stopping.set_max_tokens(*defaults.max_new_tokens);
  stopping.set_min_tokens(0);
  stopping.set_ignore_eos(false);
  stopping.set_include_stop(false);
}

v1::ServerState ToProto(ServingState state) {
  switch (state) {
    case ServingState::kServing:
      return v1::SERVER_STATE_SERVING;
    case ServingState::kStalled:
      return v1::SERVER_STATE_STALLED;
    case ServingState::kDraining:
      return v1::SERVER_STATE_DRAINING;
    case ServingState::kFailed:
      return v1::SERVER_STATE_FAILED;
  }
  return v1::SERVER_STATE_UNSPECIFIED;
}

}  // namespace

void ModelInfoToProto(const Serving& serving, v1::GetModelInfoResponse& to) {
  const Engine& engine = serving.engine;
  const ModelConfig& config = engine.config();
  to.set_name(serving.model_name);
  to.set_base_model_type(config.base_model_type);
  to.set_num_layers(config.num_layers);
  to.set_hidden_size(config.hidden_size);
  to.set_num_query_heads(config.q_heads);
  to.set_head_dim(config.head_dim);
  to.set_vocab_size(config.vocab_size);
  for (const int32_t id : engine.generation_defaults().eos_token_ids) to.add_eos_token_ids(id);
  to.set_weight_dtype(engine.options().weight_dtype);
  to.set_weights_bytes(engine.memory_plan().weights_bytes);
  CompositionToProto(config, *to.mutable_head_composition());
  CacheToProto(engine, *to.mutable_cache());
  LimitsToProto(engine, *to.mutable_limits());
  for (const FieldRange& range :
       AllRanges(config.vocab_size, engine.max_context(), engine.options().max_num_seqs)) {
    v1::FieldRange& field = *to.add_ranges();
    field.set_field(std::string(range.field));
    field.set_min(range.min);
    field.set_max(range.max);
    field.set_min_exclusive(range.min_exclusive);
  }
  DefaultsToProto(engine.generation_defaults(), to);
  v1::ChatInfo& chat = *to.mutable_chat();
  chat.set_is_available(serving.chat != nullptr);
  chat.set_tool_format(std::string(NameOf(serving.reply_format.tools)));
  chat.set_reasoning_format(std::string(NameOf(serving.reply_format.reasoning)));
}

void ServerInfoToProto(const Serving& serving, v1::GetServerInfoResponse& to) {
  to.set_version(Version());
  to.set_build(Build());
  const EngineOptions& options = serving.engine.options();
  to.set_device(options.device_name.empty() ? DeviceName(options.num_threads)
                                            : options.device_name);
  to.set_state(ToProto(serving.readiness.state()));
  const int64_t nanos = absl::ToUnixNanos(serving.start_time);
  to.mutable_start_time()->set_seconds(nanos / 1'000'000'000);
  to.mutable_start_time()->set_nanos(static_cast<int>(nanos % 1'000'000'000));
  MemoryToProto(serving.engine, *to.mutable_memory());
}

void CacheStatsToProto(const Serving& serving, v1::GetCacheStatsResponse& to) {
  const KvCacheStats kv = serving.engine.stats().kv;
  to.set_page_size(kv.page_size);
  to.set_total_pages(kv.num_pages);
  to.set_used_pages(kv.used_pages);
  to.set_cached_pages(kv.cached_pages);
  to.set_free_pages(kv.free_pages);
  to.set_total_bytes(kv.total_bytes);
  to.set_used_bytes(kv.used_bytes);
  to.set_cached_bytes(kv.cached_bytes);
  to.set_used_bytes_uncompressed(kv.used_bytes_uncompressed);
  to.set_bytes_per_token(kv.bytes_per_token);
  to.set_bytes_per_token_uncompressed(kv.bytes_per_token_uncompressed);
  to.set_usage_ratio(Ratio(kv.used_pages, kv.num_pages));
}

void LoadToProto(const Serving& serving, v1::GetLoadResponse& to) {
  const EngineStats stats = serving.engine.stats();
  to.set_num_requests_running(stats.num_running);
  to.set_num_requests_waiting(stats.num_waiting);
  to.set_num_tokens_waiting(stats.num_waiting_tokens);
  to.set_num_preemptions(stats.num_preemptions);
  to.set_prompt_tokens(stats.prompt_tokens);
  to.set_generation_tokens(stats.generation_tokens);
  to.set_num_steps(stats.num_steps);
}

}  // namespace mea
