#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "engine/text/utf8.h"
#include "server/access/access_metrics.h"
#include "server/engine_metrics.h"
#include "server/family_writer.h"

namespace mea {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Seconds, up to an hour: a long answer on a slow machine takes that long.
const Buckets kTokenBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                               0.25,   0.5,   1,      2.5,   5,    10,    60,   3600};
const Buckets kRequestBuckets = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,  1,   2.5,
                                 5,     10,    30,   60,    120,  300, 600,  1200, 3600};
const Buckets kCountBuckets = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                               1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};
const Buckets kCompletionBuckets = {1, 2, 5, 10, 20, 50, 100};

constexpr size_t kMaxLabelBytes = 256;

// Our name, and the one that routers know.
constexpr std::array<std::pair<std::string_view, std::string_view>, 22> kVllmNames = {{
    {"mea_num_requests_running", "vllm:num_requests_running"},
    {"mea_num_requests_waiting", "vllm:num_requests_waiting"},
    {"mea_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"mea_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"},
    {"mea_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
    {"mea_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
    {"mea_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
    {"mea_e2e_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
    {"mea_request_queue_time_seconds", "vllm:request_queue_time_seconds"},
    {"mea_request_prefill_time_seconds", "vllm:request_prefill_time_seconds"},
    {"mea_request_decode_time_seconds", "vllm:request_decode_time_seconds"},
    {"mea_request_inference_time_seconds", "vllm:request_inference_time_seconds"},
    {"mea_request_time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds"},
    {"mea_request_prompt_tokens", "vllm:request_prompt_tokens"},
    {"mea_request_generation_tokens", "vllm:request_generation_tokens"},
    {"mea_request_max_generation_tokens", "vllm:request_max_num_generation_tokens"},
    {"mea_request_params_n", "vllm:request_params_n"},
    {"mea_request_params_max_tokens", "vllm:request_params_max_tokens"},
    {"mea_step_tokens", "vllm:iteration_tokens_total"},
    {"mea_num_preemptions_total", "vllm:num_preemptions_total"},
    {"mea_prompt_tokens_total", "vllm:prompt_tokens_total"},
    {"mea_generation_tokens_total", "vllm:generation_tokens_total"},
}};

// mea_requests_total by the reasons of vLLM.
prometheus::MetricFamily VllmRequestSuccess(const prometheus::MetricFamily& requests) {
  prometheus::MetricFamily family{.name = "vllm:request_success_total",
                                  .help = "Requests that ended, by reason.",
                                  .type = prometheus::MetricType::Counter,
                                  .metric = {}};
  std::map<std::string, double> by_reason = {{"stop", 0}, {"length", 0}, {"abort", 0}};
  std::string model_name;
  for (const prometheus::ClientMetric& metric : requests.metric) {
    std::map<std::string, std::string> labels;
    for (const auto& label : metric.label) labels[label.name] = label.value;
    model_name = labels["model_name"];
    const bool aborted = labels["code"] == "CANCELLED" || labels["code"] == "DEADLINE_EXCEEDED";
    const std::string reason = aborted ? "abort" : labels["finish_reason"];
    if (!reason.empty()) by_reason[reason] += metric.counter.value;
  }
  for (const auto& [reason, count] : by_reason) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"model_name", model_name}, {"finished_reason", reason}};
    metric.counter.value = count;
  }
  return family;
}

void AppendVllmNames(std::vector<prometheus::MetricFamily>& families) {
  const size_t num_ours = families.size();
  for (size_t i = 0; i < num_ours; ++i) {
    if (families[i].name == "mea_requests_total") {
      families.push_back(VllmRequestSuccess(families[i]));
    }
    for (const auto& [ours, theirs] : kVllmNames) {
      if (families[i].name != ours) continue;
      prometheus::MetricFamily copy = families[i];
      copy.name = std::string(theirs);
      families.push_back(std::move(copy));
    }
  }
}

// A name that a user chose, made fit for a label: UTF-8, one line, bounded length.
std::string LabelValue(std::string_view name) {
  std::string value(name.substr(0, kMaxLabelBytes));
  const bool is_utf8 = IsValidUtf8(value);
  for (char& c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_iscntrl(byte) || (!is_utf8 && !absl::ascii_isascii(byte))) c = '?';
  }
  return value;
}

std::string_view Phase(const StepReport& step) {
  if (step.num_prefill_tokens == 0) return "decode";
  return step.num_decode_tokens == 0 ? "prefill" : "mixed";
}

}  // namespace

Metrics::Metrics(MetricsOptions options)
    : options_{LabelValue(options.model_name), options.vllm_names},
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
      prefill_time_(AddHistogram("mea_request_prefill_time_seconds",
                                 "Time from a request's first step to its first token.",
                                 kRequestBuckets)),
      decode_time_(AddHistogram("mea_request_decode_time_seconds",
                                "Time from a request's first token to its end.", kRequestBuckets)),
      inference_time_(AddHistogram("mea_request_inference_time_seconds",
                                   "Time from a request's first step to its end.",
                                   kRequestBuckets)),
      token_time_(AddHistogram("mea_request_time_per_output_token_seconds",
                               "A request's time from its first token to its end, by tokens after "
                               "the first.",
                               kTokenBuckets)),
      prompt_tokens_(AddHistogram("mea_request_prompt_tokens", "Tokens of a request's prompt.",
                                  kCountBuckets)),
      generation_tokens_(AddHistogram("mea_request_generation_tokens",
                                      "Tokens that a request's completions have.", kCountBuckets)),
      max_generation_tokens_(AddHistogram("mea_request_max_generation_tokens",
                                          "Tokens of a request's longest completion.",
                                          kCountBuckets)),
      params_n_(AddHistogram("mea_request_params_n", "Completions that a request asks for.",
                             kCompletionBuckets)),
      params_max_tokens_(AddHistogram("mea_request_params_max_tokens",
                                      "Most tokens that a request's completion may have.",
                                      kCountBuckets)),
      step_tokens_(AddHistogram("mea_step_tokens", "Tokens that one step of the engine computed.",
                                kCountBuckets)),
      step_prompt_budget_(AddHistogram("mea_step_prompt_budget_tokens",
                                       "Prompt tokens that a step was allowed, of steps with "
                                       "prompts and decoding sequences.",
                                       kCountBuckets)),
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
  step_tokens_.Observe(step.num_prefill_tokens + step.num_decode_tokens);
  if (step.num_prefill_tokens > 0 && step.num_decode_tokens > 0) {
    step_prompt_budget_.Observe(step.prompt_budget);
  }
}

void Metrics::ObserveRequest(const RequestFigures& request) {
  prompt_tokens_.Observe(static_cast<double>(request.prompt_tokens));
  generation_tokens_.Observe(static_cast<double>(request.generation_tokens));
  max_generation_tokens_.Observe(static_cast<double>(request.max_generation_tokens));
  params_n_.Observe(request.n);
  params_max_tokens_.Observe(request.max_tokens);
  if (!request.queue || !request.first_token) return;
  const absl::Duration decode = request.total - *request.first_token;
  Observe(prefill_time_, *request.first_token - *request.queue);
  Observe(decode_time_, decode);
  Observe(inference_time_, request.total - *request.queue);
  if (request.generation_tokens > 1) {
    Observe(token_time_, decode / (request.generation_tokens - 1));
  }
}

void Metrics::CountRequest(absl::StatusCode code, std::string_view finish_reason,
                           absl::Duration e2e) {
  requests_
      .Add(
          {{"code", absl::StatusCodeToString(code)}, {"finish_reason", std::string(finish_reason)}})
      .Increment();
  if (code == absl::StatusCode::kOk) Observe(e2e_, e2e);
}

LatencyBuckets Metrics::BucketsOf(const prometheus::Histogram& histogram) {
  LatencyBuckets buckets;
  uint64_t before = 0;
  for (const auto& bucket : histogram.Collect().histogram.bucket) {
    buckets.counts.push_back(bucket.cumulative_count - before);
    before = bucket.cumulative_count;
    if (std::isfinite(bucket.upper_bound)) buckets.bounds.push_back(bucket.upper_bound);
  }
  return buckets;
}

std::string Metrics::Text(const MetricsSources& sources) const {
  const auto& [engine, access, log, grammars, spans] = sources;
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  AppendEngineMetrics(engine, options_.model_name, families);
  if (access.has_keys()) AppendAccessMetrics(access, options_.model_name, families);
  FamilyWriter out(options_.model_name, families);
  out.Gauge("mea_grammar_cache_bytes", "Bytes of the compiled grammars that are kept.",
            static_cast<double>(grammars == nullptr ? 0 : grammars->stats().cached_bytes));
  out.Counter("mea_log_lines_dropped_total",
              "Lines of the log that were dropped since nobody read it fast enough.",
              static_cast<double>(log.num_dropped()));
  if (spans != nullptr) {
    const SpanCounts counts = spans->counts();
    out.Family("mea_trace_spans_total", prometheus::MetricType::Counter,
               "Spans that a collector took, and those that were dropped.");
    out.Sample(static_cast<double>(counts.exported), {{"result", "exported"}});
    out.Sample(static_cast<double>(counts.dropped), {{"result", "dropped"}});
  }
  if (options_.vllm_names) {
    AppendVllmNames(families);
    AppendVllmCacheConfig(engine, options_.model_name, families);
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace mea
