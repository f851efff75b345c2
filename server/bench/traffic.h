#pragma once

#include <cstdint>
#include <vector>

#include "server/bench/arrivals.h"
#include "server/bench/client.h"
#include "server/bench/prompts.h"

namespace mea {

struct TrafficOptions {
  ArrivalOptions arrivals;
  int concurrency = 64;      // streams at once, each with a thread that waits for it
  int64_t num_requests = 0;  // 0: as many as duration_s allows
  double duration_s = 0;     // no request begins later; 0: only num_requests ends it
  int64_t first_number = 0;  // of the first prompt
};

// The results, and the time that they took here.
struct TrafficResult {
  std::vector<RequestRecord> records;  // in the order of their ends
  double seconds = 0;                  // from the first request to the end of the last
  double cpu_seconds = 0;              // of this process, all its threads
};

// Sends the requests, each at its time, and waits for all of them. If all streams are busy at that
// time, the request leaves late, and its record says so.
TrafficResult RunTraffic(const TrafficOptions& options, const Prompts& prompts,
                         const BenchClientFactory& clients, LiveCounts& live);

}  // namespace mea
