#include "server/request_traces.h"

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/clock.h"
#include "engine/text/utf8.h"
#include "server/limits.h"
#include "server/proto_convert.h"

namespace mea {
namespace {

// A collector refuses a whole batch for one text that is not UTF-8.
std::string SpanText(std::string_view text) {
  return ReplaceInvalidUtf8(text.substr(0, kMaxSpanTextBytes));
}

std::string RandomTraceId() {
  thread_local absl::BitGen bits;
  // Never the invalid id of zeros alone.
  const auto id = absl::Uniform<uint64_t>(absl::IntervalClosed, bits, 1, ~uint64_t{0});
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(bits), id);
}

absl::Status SpanStatus(const absl::Status& status) {
  if (status.ok()) return status;
  const FailureText told = ToldOf(status);
  return {status.code(), SpanText(told.field.empty() ? told.message : told.field)};
}

std::vector<SpanPhase> PhasesOf(const RequestTimes& times, absl::Time start) {
  const absl::Time end = start + times.total;
  const absl::Time scheduled = times.queue ? start + *times.queue : end;
  std::vector<SpanPhase> phases = {{"queue", start, scheduled}};
  if (!times.queue) return phases;
  const absl::Time first_token = times.first_token ? start + *times.first_token : end;
  phases.push_back({"prefill", scheduled, first_token});
  if (times.first_token) phases.push_back({"decode", first_token, end});
  return phases;
}

void AddParameters(const GenerationSpec& spec, std::vector<SpanAttribute>& to) {
  const SamplingParams& sampling = spec.request.sampling;
  to.push_back({"gen_ai.operation.name", spec.chat ? "chat" : "text_completion"});
  to.push_back({"gen_ai.request.n", int64_t{spec.n}});
  to.push_back({"gen_ai.request.temperature", double{sampling.temperature}});
  to.push_back({"gen_ai.request.top_p", double{sampling.top_p}});
  if (spec.request.prompt.empty()) return;  // it ended before max_tokens was known
  to.push_back({"gen_ai.request.max_tokens", int64_t{spec.request.stopping.max_tokens}});
}

void AddUsage(const Usage& usage, int n, std::vector<SpanAttribute>& to) {
  to.push_back({"gen_ai.usage.num_sequences", int64_t{n}});
  to.push_back({"gen_ai.usage.prompt_tokens", int64_t{usage.prompt_tokens}});
  to.push_back({"gen_ai.usage.completion_tokens", int64_t{usage.completion_tokens}});
  to.push_back({"mea.cached_tokens", int64_t{usage.cached_tokens}});
  to.push_back({"mea.preemptions", int64_t{usage.num_preemptions}});
  to.push_back({"mea.cache_bytes", usage.kv_bytes});
  to.push_back({"mea.cache_bytes_all_heads", usage.kv_bytes_uncompressed});
}

void AddLatencies(const RequestTimes& times, std::vector<SpanAttribute>& to) {
  const auto add = [&to](std::string_view name, absl::Duration time) {
    to.push_back({name, absl::ToDoubleSeconds(time)});
  };
  add("gen_ai.latency.e2e", times.total);
  if (!times.queue) return;
  add("gen_ai.latency.time_in_queue", *times.queue);
  add("gen_ai.latency.time_in_model_inference", times.total - *times.queue);
  if (!times.first_token) return;
  add("gen_ai.latency.time_to_first_token", *times.first_token);
  add("gen_ai.latency.time_in_model_prefill", *times.first_token - *times.queue);
  add("gen_ai.latency.time_in_model_decode", times.total - *times.first_token);
}

}  // namespace

std::optional<RequestSpan> RequestTraces::Begin(const TraceContext& caller, const std::string& id,
                                                absl::Time arrival, absl::Time end) const {
  if (exporter_ == nullptr) return std::nullopt;
  std::string trace_id = caller.trace_id.empty() ? RandomTraceId() : caller.trace_id;
  if (!sampler_.Takes(caller, trace_id)) return std::nullopt;
  RequestSpan span{.trace_id = std::move(trace_id),
                   .parent_id = caller.parent_id,
                   .trace_state = caller.state,
                   .end = ToWallClock(end)};
  span.start = span.end - (end - arrival);
  span.attributes.push_back({"gen_ai.request.id", SpanText(id)});
  return span;
}

void RequestTraces::Finished(const GenerationSpec& spec, const FinishOutput& finish,
                             const RequestTimes& times) {
  const absl::Time end = times.arrival + times.total;
  std::optional<RequestSpan> span = Begin(spec.trace, spec.request.id, times.arrival, end);
  if (!span) return;
  std::vector<SpanAttribute>& attributes = span->attributes;
  attributes.push_back({"gen_ai.request.model", model_name_});
  attributes.push_back({"gen_ai.response.model", model_name_});
  AddParameters(spec, attributes);
  AddUsage(finish.usage, spec.n, attributes);
  AddLatencies(times, attributes);
  if (finish.status.ok()) {
    attributes.push_back({"mea.finish_reason", FinishReasonName(finish.reason)});
  }
  span->phases = PhasesOf(times, span->start);
  span->status = SpanStatus(finish.status);
  exporter_->Put(*std::move(span));
}

void RequestTraces::Refused(const RequestTag& tag, const absl::Status& status, absl::Time arrival) {
  if (absl::IsUnauthenticated(status)) return;
  std::optional<RequestSpan> span = Begin(tag.trace, tag.id, arrival, Now());
  if (!span) return;
  span->status = SpanStatus(status);
  exporter_->Put(*std::move(span));
}

}  // namespace mea
