#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <utility>
#include <vector>

#include "server/access/access_metrics.h"
#include "server/engine_metrics.h"

namespace mea {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kTokenBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                               0.1,    0.25,  0.5,    1,     2.5,  5};
const Buckets kRequestBuckets = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                 1,     2.5,   5,    10,    30,   60,  120,  300};

// Our name, and the one routers know.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kVllmNames = {{
    {"mea_num_requests_running", "vllm:num_requests_running"},
    {"mea_num_requests_waiting", "vllm:num_requests_waiting"},
    {"mea_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"mea_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"},
    {"mea_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
    {"mea_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"mea_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"mea_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
}};

void AppendVllmNames(std::vector<prometheus::MetricFamily>& families) {
  const size_t num_ours = families.size();
  for (size_t i = 0; i < num_ours; ++i) {
    for (const auto& [ours, theirs] : kVllmNames) {
      if (families[i].name != ours) continue;
      prometheus::MetricFamily copy = families[i];
      copy.name = std::string(theirs);
      families.push_back(std::move(copy));
    }
  }
}

std::string_view Phase(const StepReport& step) {
  if (step.num_prefill_tokens == 0) return "decode";
  return step.num_decode_tokens == 0 ? "prefill" : "mixed";
}

}  // namespace

Metrics::Metrics(MetricsOptions options)
    : options_(std::move(options)),
      first_token_(AddHistogram("mea_time_to_first_token_seconds",
                                "Time from a request's arrival to its first token.",
                                kRequestBuckets)),
      inter_token_(AddHistogram("mea_inter_token_latency_seconds",
                                "Time between two tokens of a request.", kTokenBuckets)),
      e2e_(AddHistogram("mea_e2e_request_latency_seconds",
                        "Time from a request's arrival to its end, of those that ended well.",
                        kRequestBuckets)),
      queue_time_(AddHistogram("mea_request_queue_time_seconds",
                               "Time from a request's arrival to its first step.",
                               kRequestBuckets)),
      step_(prometheus::BuildHistogram()
                .Name("mea_step_seconds")
                .Help("Time of one step of the engine, by what it computed.")
                .Labels({{"model_name", options_.model_name}})
                .Register(registry_)),
      requests_(
          prometheus::BuildCounter()
              .Name("mea_requests_total")
              .Help("Requests for text over gRPC and HTTP that ended, by status code and reason.")
              .Labels({{"model_name", options_.model_name}})
              .Register(registry_)) {}

prometheus::Histogram& Metrics::AddHistogram(const std::string& name, const std::string& help,
                                             const Buckets& buckets) {
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Labels({{"model_name", options_.model_name}})
      .Register(registry_)
      .Add({}, buckets);
}

void Metrics::ObserveStep(const StepReport& step) {
  step_.Add({{"phase", std::string(Phase(step))}}, kTokenBuckets).Observe(step.seconds);
}

void Metrics::CountRequest(absl::StatusCode code, std::string_view finish_reason,
                           absl::Duration e2e) {
  requests_
      .Add(
          {{"code", absl::StatusCodeToString(code)}, {"finish_reason", std::string(finish_reason)}})
      .Increment();
  if (code == absl::StatusCode::kOk) Observe(e2e_, e2e);
}

std::string Metrics::Text(const Engine& engine, const Access& access) const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  AppendEngineMetrics(engine, options_.model_name, families);
  if (access.has_keys()) AppendAccessMetrics(access, options_.model_name, families);
  if (options_.vllm_names) {
    AppendVllmNames(families);
    AppendVllmCacheConfig(engine, options_.model_name, families);
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace mea
