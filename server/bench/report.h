#pragma once

#include <optional>
#include <string>

#include "server/bench/cache_watch.h"
#include "server/bench/measurement.h"

namespace mea {

// What was measured, and how.
struct ServeBenchSetup {
  std::string system;  // "mea 0.1.0", or "openai"
  std::string server;  // address or URL
  std::string model;
  std::string device;   // the server's name for it; empty: none
  std::string prompts;  // in words
  TrafficOptions load;
  std::string goodput;        // as asked for; empty: not
  bool tells_cached = false;  // the server says how much of a prompt it found in its cache
};

// "random, 128 tokens in, 64:128 out".
std::string DescribePrompts(const PromptOptions& options);

// For people: tables of requests, throughput and latency, and two histograms.
std::string ServeReport(const ServeBenchSetup& setup, const Measurement& measured,
                        const std::optional<CachePeak>& cache);

// The same as one JSON object; times in seconds.
std::string ServeReportJson(const ServeBenchSetup& setup, const Measurement& measured,
                            const std::optional<CachePeak>& cache);

}  // namespace mea
