#pragma once

#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/grammar/grammar_compiler.h"
#include "server/access/access.h"
#include "server/log.h"
#include "server/traces/span_exporter.h"

namespace mea {

struct MetricsOptions {
  std::string model_name;   // label of every metric
  bool vllm_names = false;  // repeat under vllm: what routers read
};

// The cost of a request, all of its completions together.
struct RequestFigures {
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
  int64_t max_generation_tokens = 0;  // of one of its completions
  int n = 1;
  int max_tokens = 0;
  std::optional<absl::Duration> queue;        // from its arrival to its first step
  std::optional<absl::Duration> first_token;  // to its first token
  absl::Duration total;                       // to its end
};

// Whom a scrape asks.
struct MetricsSources {
  const Engine& engine;
  const Access& access;
  const Log& log;
  const GrammarCompiler* grammars = nullptr;  // null: there are none
  const SpanExporter* spans = nullptr;        // likewise
};

// What a histogram has seen since the start: counts[i] values of at most bounds[i], and more than
// the bound before; one count more than bounds.
struct LatencyBuckets {
  std::vector<double> bounds;  // seconds
  std::vector<uint64_t> counts;
};

// What /metrics shows. Events are counted where they happen; everything that others know is
// read from their stats at the scrape. Thread-safe.
class Metrics {
 public:
  explicit Metrics(MetricsOptions options);

  void ObserveStep(const StepReport& step);
  void ObserveQueueTime(absl::Duration wait) { Observe(queue_time_, wait); }
  void ObserveFirstToken(absl::Duration since_arrival) { Observe(first_token_, since_arrival); }
  void ObserveInterToken(absl::Duration gap) { Observe(inter_token_, gap); }
  // Once per request that ended well.
  void ObserveRequest(const RequestFigures& request);
  // Once per call; `finish_reason` ("stop", "length") is empty unless the code is OK.
  void CountRequest(absl::StatusCode code, std::string_view finish_reason, absl::Duration e2e);

  LatencyBuckets first_token() const { return BucketsOf(first_token_); }
  LatencyBuckets inter_token() const { return BucketsOf(inter_token_); }

  // Prometheus text format 0.0.4.
  std::string Text(const MetricsSources& sources) const;

 private:
  prometheus::Histogram& AddHistogram(const std::string& name, const std::string& help,
                                      const prometheus::Histogram::BucketBoundaries& buckets);
  static LatencyBuckets BucketsOf(const prometheus::Histogram& histogram);
  static void Observe(prometheus::Histogram& histogram, absl::Duration duration) {
    histogram.Observe(absl::ToDoubleSeconds(duration));
  }

  const MetricsOptions options_;
  prometheus::Registry registry_;
  prometheus::Histogram& first_token_;
  prometheus::Histogram& inter_token_;
  prometheus::Histogram& e2e_;
  prometheus::Histogram& queue_time_;
  prometheus::Histogram& prefill_time_;
  prometheus::Histogram& decode_time_;
  prometheus::Histogram& inference_time_;
  prometheus::Histogram& token_time_;
  prometheus::Histogram& prompt_tokens_;
  prometheus::Histogram& generation_tokens_;
  prometheus::Histogram& max_generation_tokens_;
  prometheus::Histogram& params_n_;
  prometheus::Histogram& params_max_tokens_;
  prometheus::Histogram& step_tokens_;
  prometheus::Histogram& step_prompt_budget_;
  prometheus::Family<prometheus::Histogram>& step_;    // label phase
  prometheus::Family<prometheus::Counter>& requests_;  // labels code, finish_reason
};

// The Content-Type of Metrics::Text.
inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace mea
