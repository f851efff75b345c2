#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "server/bench/request.h"

namespace mea {

using BenchClock = std::chrono::steady_clock;

inline double SecondsBetween(BenchClock::time_point from, BenchClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// The progress of a measurement.
struct LiveCounts {
  std::atomic<int64_t> running = 0;
  std::atomic<int64_t> ended = 0;  // cancelled and failed ones among them
  std::atomic<int64_t> failed = 0;
  std::atomic<int64_t> tokens = 0;
};

// Records the times of one request while it runs. Used by one thread at a time.
class RequestRecorder {
 public:
  RequestRecorder(const BenchRequest& request, LiveCounts& live)
      : cancel_after_(request.cancel_after), live_(live) {
    record_.arrivals.reserve(static_cast<size_t>(request.max_tokens));
  }

  // The request leaves now; `due` is when it should have.
  void Start(BenchClock::time_point due);
  // `count` tokens arrived at that time.
  void Tokens(int count, BenchClock::time_point now);
  // True once, when as many have arrived as the client wants.
  bool TurnsAway();
  // The end, with kOkStatus or a failure.
  void End(std::string status, std::string message = "");

  RequestRecord& record() { return record_; }

 private:
  const int cancel_after_;
  LiveCounts& live_;
  BenchClock::time_point start_;
  RequestRecord record_;
};

}  // namespace mea
