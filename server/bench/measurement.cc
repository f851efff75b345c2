#include "server/bench/measurement.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace mea {
namespace {

bool Within(double value, const std::optional<double>& limit) { return !limit || value <= *limit; }

bool IsGood(const RequestRecord& record, const GoodputLimits& limits) {
  return Within(Ttft(record), limits.ttft) && Within(Tpot(record).value_or(0), limits.tpot) &&
         Within(record.e2e, limits.e2e);
}

// The latencies of all requests that ended well.
struct Latencies {
  std::vector<double> ttft, tpot, itl, e2e;

  void Add(const RequestRecord& record) {
    e2e.push_back(record.e2e);
    if (record.arrivals.empty()) return;
    ttft.push_back(Ttft(record));
    if (const auto value = Tpot(record)) tpot.push_back(*value);
    for (size_t i = 1; i < record.arrivals.size(); ++i) {
      itl.push_back(record.arrivals[i].seconds - record.arrivals[i - 1].seconds);
    }
  }
};

void AddFailures(const std::vector<RequestRecord>& records, Measurement& to) {
  std::map<std::string, std::vector<double>> answers;
  for (const RequestRecord& record : records) {
    if (record.cancelled || record.ok()) continue;
    Failures& failures = to.failures[record.status];
    if (failures.example.empty()) failures.example = record.message;
    failures.with_retry += record.retry_told ? 1 : 0;
    answers[record.status].push_back(record.e2e);
  }
  for (auto& [status, seconds] : answers)
    to.failures[status].answer = Summarize(std::move(seconds));
}

}  // namespace

absl::StatusOr<GoodputLimits> ParseGoodput(const std::string& text) {
  GoodputLimits limits;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> limit = absl::StrSplit(part, absl::MaxSplits(':', 1));
    absl::Duration duration;
    std::optional<double>* to = limit.first == "ttft"   ? &limits.ttft
                                : limit.first == "tpot" ? &limits.tpot
                                : limit.first == "e2e"  ? &limits.e2e
                                                        : nullptr;
    if (to == nullptr || !absl::ParseDuration(limit.second, &duration) ||
        duration <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--goodput '", part,
                       "' is not ttft:TIME, tpot:TIME or e2e:TIME, as in "
                       "ttft:500ms,tpot:50ms"));
    }
    *to = absl::ToDoubleSeconds(duration);
  }
  return limits;
}

double Ttft(const RequestRecord& record) {
  return record.arrivals.empty() ? record.e2e : record.arrivals.front().seconds;
}

std::optional<double> Tpot(const RequestRecord& record) {
  const int tokens = std::max(record.completion_tokens, record.num_tokens);
  if (tokens < 2 || record.arrivals.empty()) return std::nullopt;
  return (record.e2e - Ttft(record)) / (tokens - 1);
}

Measurement Measure(const TrafficResult& result, const std::optional<GoodputLimits>& limits) {
  Measurement to{.seconds = result.seconds, .cpu_seconds = result.cpu_seconds};
  Latencies latencies;
  std::vector<double> late;
  if (limits) to.good = 0;
  for (const RequestRecord& record : result.records) {
    late.push_back(record.late);
    to.messages += std::ssize(record.arrivals);
    to.output_tokens +=
        record.ok() ? std::max(record.completion_tokens, record.num_tokens) : record.num_tokens;
    if (record.cancelled) ++to.cancelled;
    if (!record.ok()) continue;
    ++to.completed;
    to.prompt_tokens += record.prompt_tokens;
    to.cached_tokens += record.cached_tokens;
    if (limits && IsGood(record, *limits)) ++*to.good;
    latencies.Add(record);
  }
  AddFailures(result.records, to);
  to.ttft_histogram = MakeHistogram(latencies.ttft);
  to.itl_histogram = MakeHistogram(latencies.itl);
  to.ttft = Summarize(std::move(latencies.ttft));
  to.tpot = Summarize(std::move(latencies.tpot));
  to.itl = Summarize(std::move(latencies.itl));
  to.e2e = Summarize(std::move(latencies.e2e));
  to.late = Summarize(std::move(late));
  return to;
}

}  // namespace mea
