#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/step_time.h"
#include "kvcache/kv_layout.h"

namespace mea {

// The remaining cost of one request.
struct Work {
  int64_t turn = 0;  // see Scheduler: the earlier goes first
  int priority = 0;
  bool is_running = false;
  int prompt_tokens = 0;  // to be computed before it draws; 0 while it decodes
  int output_tokens = 0;  // to be drawn, at least 1
  int num_pages = 0;      // that it holds or, if it waits, that it needs to begin
};

// All work of an engine at one moment, as numbers. With them, any thread can tell when a request
// would end without asking the engine.
struct LoadForecast {
  absl::Time time;
  StepTime step_time;
  bool is_known = false;  // step_time is reliable

  int64_t num_steps = 0;  // the turn of a request of priority 0 that arrives now
  int steps_per_priority = 0;
  int max_num_seqs = 0;
  int max_batch_tokens = 0;
  int prompt_budget = 0;  // prompt tokens that a step is allowed at present
  int max_context = 0;
  const KvLayout* layout = nullptr;  // of the cache, which outlives it
  int num_available_pages = 0;
  // The share of their allowed tokens that requests have drawn which ended by themselves, and the
  // share of prompt tokens found in the prefix cache. Both 0..1.
  double output_share = 0;
  double cached_share = 0;
  // Running requests, then waiting ones, each in the order of their turns.
  std::vector<Work> work;
};

// Whether only max_tokens or the context can end it.
bool EndsAtLengthOnly(const StoppingParams& stopping);

// What a request that has just arrived costs: expected, or at least.
Work ExpectedWork(const LoadForecast& forecast, const Request& request);
Work LeastWork(const LoadForecast& forecast, const Request& request);
// The total number of output tokens to expect from a request.
int ExpectedOutput(const Request& request, double output_share, int max_context);

// Seconds from forecast.time until `own` has ended; `recent` have arrived since the forecast was
// made. Replays the scheduler with whole sequences: none needs more than its Work says, none is
// preempted and none arrives later. So the result is about the least time that it takes.
double SecondsUntilEnd(const LoadForecast& forecast, std::span<const Work> recent, const Work& own);
// Seconds that it takes if there is no other work.
double SecondsAlone(const LoadForecast& forecast, const Work& own);
// Seconds from forecast.time until `num_requests` of the waiting requests, with `num_tokens` prompt
// tokens, have begun.
double SecondsUntilBegun(const LoadForecast& forecast, std::span<const Work> recent,
                         int num_requests, int64_t num_tokens);

}  // namespace mea
