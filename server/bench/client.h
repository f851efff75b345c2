#pragma once

#include <functional>
#include <memory>

#include "server/bench/recorder.h"
#include "server/bench/request.h"

namespace mea {

// One stream at a time to a server. Used by one thread.
class BenchClient {
 public:
  virtual ~BenchClient() = default;
  // Sends a request that was due at that time and blocks until it has ended. The record has all
  // failures.
  virtual RequestRecord Run(const BenchRequest& request, BenchClock::time_point due,
                            LiveCounts& live) = 0;
};

using BenchClientFactory = std::function<std::unique_ptr<BenchClient>()>;

// The common options of requests.
struct BenchCallOptions {
  std::string model;       // empty: the one that is served
  double timeout_s = 0;    // of a request; 0: none
  float temperature = 0;   // 0 is greedy
  bool ignore_eos = true;  // so that every server generates as many tokens
};

}  // namespace mea
