#include "server/bench/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "kernels/human_bytes.h"
#include "kernels/machine.h"
#include "server/build_info.h"

namespace mea {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kBarWidth = 40;

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

std::string RangeText(LengthRange range) {
  return range.low == range.high ? absl::StrCat(range.low)
                                 : absl::StrCat(range.low, ":", range.high);
}

std::string TrafficText(const TrafficOptions& load) {
  std::string text = absl::StrCat("arrivals ", ArrivalKindName(load.arrivals.kind));
  if (load.arrivals.kind != ArrivalKind::kInf) {
    absl::StrAppend(&text, " at ", load.arrivals.rate, "/s");
  }
  if (load.arrivals.kind == ArrivalKind::kGamma) {
    absl::StrAppend(&text, ", burstiness ", load.arrivals.burstiness);
  }
  absl::StrAppend(&text, ", at most ", load.concurrency, " streams, seed ", load.arrivals.seed);
  return text;
}

void AppendRow(const char* name, const Summary& s, std::string& to) {
  if (s.count == 0) {
    absl::StrAppendFormat(&to, "%-12s %9d\n", name, 0);
    return;
  }
  absl::StrAppendFormat(&to, "%-12s %9d %10.3f %10.3f %10.3f %10.3f %10.3f\n", name, s.count,
                        1e3 * s.mean, 1e3 * s.median, 1e3 * s.p90, 1e3 * s.p99, 1e3 * s.max);
}

void AppendHistogram(const char* name, const std::vector<HistogramBin>& bins, std::string& to) {
  int64_t most = 0;
  for (const HistogramBin& bin : bins) most = std::max(most, bin.count);
  if (most == 0) return;
  absl::StrAppend(&to, "\n", name, "\n");
  for (const HistogramBin& bin : bins) {
    // Every bin that is not empty has a bar.
    const int64_t width = (bin.count * kBarWidth + most - 1) / most;
    absl::StrAppendFormat(&to, "%9g ..%7g ms %8d %s\n", 1e3 * bin.low, 1e3 * bin.high, bin.count,
                          std::string(static_cast<size_t>(width), '#'));
  }
}

void AppendRequests(const Measurement& m, std::string& to) {
  absl::StrAppendFormat(&to, "%d completed, %d cancelled as planned", m.completed, m.cancelled);
  int64_t failed = 0;
  for (const auto& [status, failures] : m.failures) failed += failures.answer.count;
  absl::StrAppendFormat(&to, ", %d failed in %.2f s\n", failed, m.seconds);
  for (const auto& [status, failures] : m.failures) {
    absl::StrAppendFormat(
        &to,
        "  %s: %d, told after %.2f ms (median), %.2f (p99), %.2f (max), %d of them when to "
        "come back: %s\n",
        status, failures.answer.count, 1e3 * failures.answer.median, 1e3 * failures.answer.p99,
        1e3 * failures.answer.max, failures.with_retry, failures.example);
  }
}

void AppendThroughput(const Measurement& m, const ServeBenchSetup& setup, std::string& to) {
  absl::StrAppendFormat(
      &to, "throughput   %.2f requests/s, %.1f output tokens/s, %.1f prompt tokens/s",
      m.PerSecond(m.completed), m.PerSecond(m.output_tokens), m.PerSecond(m.prompt_tokens));
  if (setup.tells_cached || m.cached_tokens > 0) {
    absl::StrAppendFormat(&to, " (%.1f %% found in the prefix cache)",
                          100 * Ratio(double(m.cached_tokens), double(m.prompt_tokens)));
  }
  to += '\n';
  if (m.good) {
    absl::StrAppendFormat(&to, "goodput      %.2f requests/s within %s (%d of %d)\n",
                          m.PerSecond(*m.good), setup.goodput, *m.good, m.completed);
  }
}

void AppendClient(const Measurement& m, std::string& to) {
  absl::StrAppendFormat(&to,
                        "\nthis program: %.1f %% of a core, %.1f us of CPU time for each message, "
                        "%.2f tokens in one; "
                        "requests left late by %.2f ms (p99)\n",
                        100 * Ratio(m.cpu_seconds, m.seconds),
                        1e6 * Ratio(m.cpu_seconds, double(m.messages)),
                        Ratio(double(m.output_tokens), double(m.messages)), 1e3 * m.late.p99);
}

OrderedJson ToJson(const Summary& s) {
  if (s.count == 0) return {{"count", 0}};
  return {{"count", s.count}, {"mean", s.mean}, {"median", s.median},
          {"p90", s.p90},     {"p99", s.p99},   {"max", s.max}};
}

OrderedJson ToJson(const std::vector<HistogramBin>& bins) {
  OrderedJson json = OrderedJson::array();
  for (const HistogramBin& bin : bins) json.push_back({bin.low, bin.high, bin.count});
  return json;
}

OrderedJson ToJson(const TrafficOptions& load) {
  return {{"arrivals", ArrivalKindName(load.arrivals.kind)},
          {"rate", load.arrivals.kind == ArrivalKind::kInf ? OrderedJson()
                                                           : OrderedJson(load.arrivals.rate)},
          {"burstiness", load.arrivals.burstiness},
          {"seed", load.arrivals.seed},
          {"concurrency", load.concurrency},
          {"num_requests", load.num_requests},
          {"duration_s", load.duration_s}};
}

OrderedJson ToJson(const CachePeak& cache) {
  return {{"peak_used_bytes", cache.used_bytes},
          {"peak_used_bytes_uncompressed", cache.used_bytes_uncompressed},
          {"total_bytes", cache.total_bytes}};
}

OrderedJson ToJson(const std::map<std::string, Failures>& by_status) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [status, failures] : by_status) {
    json[status] = {{"seconds_to_answer", ToJson(failures.answer)},
                    {"with_retry", failures.with_retry},
                    {"example", failures.example}};
  }
  return json;
}

}  // namespace

std::string DescribePrompts(const PromptOptions& options) {
  std::string text;
  if (!options.file.empty()) {
    text = absl::StrCat("of ", options.file);
  } else {
    text = absl::StrCat(options.vocab_size > 0 ? "random ids, " : "random words, ",
                        RangeText(options.input), " tokens in");
    if (options.prefix_tokens > 0) {
      absl::StrAppend(&text, " after one of ", options.num_prefixes, " prefixes of ",
                      options.prefix_tokens);
    }
  }
  absl::StrAppend(&text, ", ", RangeText(options.output), " out");
  if (options.cancel_rate > 0) {
    absl::StrAppendFormat(&text, ", %g %% cancelled", 100 * options.cancel_rate);
  }
  return text;
}

std::string ServeReport(const ServeBenchSetup& setup, const Measurement& m,
                        const std::optional<CachePeak>& cache) {
  std::string to =
      absl::StrFormat("%s at %s, model %s%s\nprompts %s; %s\n\n", setup.system, setup.server,
                      setup.model, setup.device.empty() ? "" : absl::StrCat(", ", setup.device),
                      setup.prompts, TrafficText(setup.load));
  AppendRequests(m, to);
  AppendThroughput(m, setup, to);
  absl::StrAppendFormat(&to, "\n%-12s %9s %10s %10s %10s %10s %10s\n", "ms", "count", "mean",
                        "median", "p90", "p99", "max");
  AppendRow("TTFT", m.ttft, to);
  AppendRow("TPOT", m.tpot, to);
  AppendRow("ITL", m.itl, to);
  AppendRow("e2e", m.e2e, to);
  AppendHistogram("TTFT", m.ttft_histogram, to);
  AppendHistogram("ITL", m.itl_histogram, to);
  if (cache) {
    absl::StrAppendFormat(&to, "\nKV cache at its peak: %s used, %s uncompressed (%.3f), of %s\n",
                          HumanBytes(cache->used_bytes), HumanBytes(cache->used_bytes_uncompressed),
                          Ratio(double(cache->used_bytes), double(cache->used_bytes_uncompressed)),
                          HumanBytes(cache->total_bytes));
  }
  AppendClient(m, to);
  return to;
}

std::string ServeReportJson(const ServeBenchSetup& setup, const Measurement& m,
                            const std::optional<CachePeak>& cache) {
  OrderedJson json = {
      {"command", "mea bench serve"},
      {"date", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone())},
      {"client_machine", DeviceName(UsableCpus())},
      {"system", setup.system},
      {"server", setup.server},
      {"model", setup.model},
      {"device", setup.device},
      {"prompts", setup.prompts},
      {"load", ToJson(setup.load)},
      {"seconds", m.seconds},
      {"completed", m.completed},
      {"cancelled", m.cancelled},
      {"failures", ToJson(m.failures)},
      {"prompt_tokens", m.prompt_tokens},
      {"cached_tokens", m.cached_tokens},
      {"output_tokens", m.output_tokens},
      {"requests_per_second", m.PerSecond(m.completed)},
      {"output_tokens_per_second", m.PerSecond(m.output_tokens)},
      {"ttft", ToJson(m.ttft)},
      {"tpot", ToJson(m.tpot)},
      {"itl", ToJson(m.itl)},
      {"e2e", ToJson(m.e2e)},
      {"late", ToJson(m.late)},
      {"ttft_histogram", ToJson(m.ttft_histogram)},
      {"itl_histogram", ToJson(m.itl_histogram)},
      {"client_cpu_seconds", m.cpu_seconds},
      {"messages", m.messages}};
  if (m.good) {
    json["goodput"] = {{"limits", setup.goodput},
                       {"requests", *m.good},
                       {"requests_per_second", m.PerSecond(*m.good)}};
  }
  if (cache) json["kv_cache"] = ToJson(*cache);
  return json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace mea
