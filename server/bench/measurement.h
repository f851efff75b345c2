#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/bench/statistics.h"
#include "server/bench/traffic.h"

namespace mea {

// The limits within which a request counts as good, in seconds; unset: no limit.
struct GoodputLimits {
  std::optional<double> ttft;
  std::optional<double> tpot;
  std::optional<double> e2e;
};

// "ttft:500ms,tpot:50ms,e2e:10s". INVALID_ARGUMENT naming --goodput and what is wrong.
absl::StatusOr<GoodputLimits> ParseGoodput(const std::string& text);

// Time to first token; time per output token after it, (e2e - ttft) / (tokens - 1), if there are
// two tokens.
double Ttft(const RequestRecord& record);
std::optional<double> Tpot(const RequestRecord& record);

// The requests that ended with one status other than OK.
struct Failures {
  Summary answer;  // seconds until the client was told
  int64_t with_retry = 0;
  std::string example;  // the message of the first of them
};

// The figures of a run. Latencies, in seconds, are of requests that ended well; tokens are all that
// arrived.
struct Measurement {
  double seconds = 0;
  double cpu_seconds = 0;  // of the measuring program
  int64_t completed = 0;
  int64_t cancelled = 0;  // by the client, as planned
  std::map<std::string, Failures> failures;
  int64_t prompt_tokens = 0;  // of completed requests, as the server counts them
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  int64_t messages = 0;  // that brought them
  Summary ttft, tpot, itl, e2e;
  Summary late;  // of all requests
  // Of requests within the limits, where there are any.
  std::optional<int64_t> good;
  std::vector<HistogramBin> ttft_histogram, itl_histogram;

  double PerSecond(int64_t count) const {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
  }
};

Measurement Measure(const TrafficResult& result, const std::optional<GoodputLimits>& limits);

}  // namespace mea
