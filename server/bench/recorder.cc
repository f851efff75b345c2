#include "server/bench/recorder.h"

#include <algorithm>
#include <utility>

namespace mea {

void RequestRecorder::Start(BenchClock::time_point due) {
  ++live_.running;
  start_ = BenchClock::now();
  record_.late = std::max(0.0, SecondsBetween(due, start_));
}

void RequestRecorder::Tokens(int count, BenchClock::time_point now) {
  if (count == 0) return;
  record_.arrivals.push_back({.seconds = SecondsBetween(start_, now), .tokens = count});
  record_.num_tokens += count;
  live_.tokens += count;
}

bool RequestRecorder::TurnsAway() {
  if (cancel_after_ == 0 || record_.num_tokens < cancel_after_ || record_.cancelled) return false;
  record_.cancelled = true;
  return true;
}

void RequestRecorder::End(std::string status, std::string message) {
  record_.e2e = SecondsBetween(start_, BenchClock::now());
  record_.status = std::move(status);
  record_.message = std::move(message);
  --live_.running;
  ++live_.ended;
  if (!record_.cancelled && record_.status != kOkStatus) ++live_.failed;
}

}  // namespace mea
