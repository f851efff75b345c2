#include "server/vllm/info.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/build_info.h"
#include "server/proto_convert.h"
#include "server/ratio.h"

namespace mea::vllm_engine {
namespace {

namespace engine = ::vllm::grpc::engine;

// Their counts have 32 bits.
int32_t Clamped(int64_t count) {
  return static_cast<int32_t>(std::min<int64_t>(count, std::numeric_limits<int32_t>::max()));
}

std::string DefaultsJson(const v1::GetModelInfoResponse& info) {
  const v1::SamplingParams& sampling = info.default_sampling();
  nlohmann::ordered_json json = {{"temperature", sampling.temperature()},
                                 {"top_k", sampling.top_k()},
                                 {"top_p", sampling.top_p()},
                                 {"min_p", sampling.min_p()},
                                 {"repetition_penalty", sampling.repetition_penalty()}};
  const v1::StoppingParams& stopping = info.default_stopping();
  if (stopping.has_max_tokens()) json["max_tokens"] = stopping.max_tokens();
  return json.dump();
}

}  // namespace

void Fill(const Serving& serving, engine::GetModelInfoResponse& to) {
  v1::GetModelInfoResponse info;
  ModelInfoToProto(serving, info);
  const std::string& model_dir = serving.engine.options().model_dir;
  to.set_model_path(model_dir);
  to.set_tokenizer_path(model_dir);
  to.set_is_generation(true);
  to.set_max_context_length(static_cast<uint32_t>(info.limits().max_context()));
  to.set_max_req_input_len(info.limits().max_context() - 1);
  to.set_vocab_size(static_cast<uint32_t>(info.vocab_size()));
  to.set_served_model_name(info.name());
  to.set_model_type(info.base_model_type());
  *to.mutable_eos_token_ids() = info.eos_token_ids();
  to.set_default_sampling_params_json(DefaultsJson(info));
}

void Fill(const Serving& serving, engine::GetServerInfoResponse& to) {
  to.set_active_requests(static_cast<uint32_t>(serving.requests.size()));
  to.set_is_paused(serving.readiness.state() != ServingState::kServing);
  to.set_uptime_seconds(absl::ToDoubleSeconds(Now() - serving.start_time));
  to.set_server_type("vllm-grpc");
  to.set_data_parallel_size(1);
  const auto& options = serving.engine.options();
  to.set_kv_cache_dtype(options.kv_dtype);
  to.set_block_size(serving.engine.stats().kv.page_size);
  to.set_model_dtype(options.weight_dtype);
  to.set_max_num_seqs(options.max_num_seqs);
  to.set_constrained_decoding_start("first_token");
}

void Fill(const Serving& serving, engine::GetLoadsResponse& to) {
  const auto stats = serving.engine.stats();
  const int max_running = serving.engine.options().max_num_seqs;
  to.set_timestamp(absl::FormatTime(absl::RFC3339_full, absl::Now(), absl::UTCTimeZone()));
  to.set_version(Version());
  to.set_dp_rank_count(1);
  engine::SchedulerLoad& load = *to.add_loads();
  load.set_num_running_reqs(stats.num_running);
  load.set_num_waiting_reqs(stats.num_waiting);
  load.set_num_total_reqs(stats.num_running + stats.num_waiting);
  load.set_num_used_tokens(Clamped(int64_t{stats.kv.used_pages} * stats.kv.page_size));
  load.set_max_total_num_tokens(Clamped(int64_t{stats.kv.num_pages} * stats.kv.page_size));
  load.set_token_usage(Ratio(stats.kv.used_pages, stats.kv.num_pages));
  load.set_cache_hit_rate(Ratio(stats.kv.prefix_hits, stats.kv.prefix_queries));
  load.set_utilization(Ratio(stats.num_running, max_running));
  load.set_max_running_requests(max_running);
  load.set_num_waiting_uncached_tokens(Clamped(stats.num_waiting_tokens));
}

void Fill(const Serving& serving, engine::HealthCheckResponse& to) {
  const ServingState state = serving.readiness.state();
  to.set_healthy(state == ServingState::kServing);
  to.set_message(std::string(ServingStateName(state)));
}

}  // namespace mea::vllm_engine
