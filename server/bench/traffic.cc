#include "server/bench/traffic.h"

#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace mea {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Departure {
  int64_t number;
  BenchClock::time_point due;
};

// Hands out the requests to free streams. Thread-safe.
class Schedule {
 public:
  explicit Schedule(const TrafficOptions& options)
      : options_(options), arrivals_(options.arrivals) {}

  // Nothing if there are no more.
  std::optional<Departure> Next() {
    absl::MutexLock lock(&mu_);
    if (options_.num_requests > 0 && num_given_ >= options_.num_requests) return std::nullopt;
    const auto now = BenchClock::now();
    const auto offset = std::chrono::duration<double>(arrivals_.Next());
    auto due = start_ + std::chrono::duration_cast<BenchClock::duration>(offset);
    if (options_.arrivals.kind == ArrivalKind::kInf) due = now;  // whenever a stream is free
    if (options_.duration_s > 0 && SecondsBetween(start_, due) >= options_.duration_s) {
      return std::nullopt;
    }
    return Departure{options_.first_number + num_given_++, due};
  }

  BenchClock::time_point start() const { return start_; }

 private:
  const TrafficOptions& options_;
  const BenchClock::time_point start_ = BenchClock::now();
  absl::Mutex mu_;
  Arrivals arrivals_ ABSL_GUARDED_BY(mu_);
  int64_t num_given_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace

TrafficResult RunTraffic(const TrafficOptions& options, const Prompts& prompts,
                         const BenchClientFactory& clients, LiveCounts& live) {
  int num_streams = options.concurrency;
  if (options.num_requests > 0) {
    num_streams = static_cast<int>(std::min<int64_t>(num_streams, options.num_requests));
  }
  std::vector<std::unique_ptr<BenchClient>> streams;
  for (int i = 0; i < num_streams; ++i) streams.push_back(clients());

  TrafficResult result;
  absl::Mutex mu;  // guards result.records
  const double cpu_before = CpuSeconds();
  Schedule schedule(options);
  const auto run_stream = [&](BenchClient& client) {
    while (const std::optional<Departure> departure = schedule.Next()) {
      const BenchRequest request = prompts.Make(departure->number);
      std::this_thread::sleep_until(departure->due);
      RequestRecord record = client.Run(request, departure->due, live);
      absl::MutexLock lock(&mu);
      result.records.push_back(std::move(record));
    }
  };
  std::vector<std::thread> threads;
  for (const auto& stream : streams)
    threads.emplace_back([&, &client = *stream] { run_stream(client); });
  for (std::thread& thread : threads) thread.join();
  result.seconds = SecondsBetween(schedule.start(), BenchClock::now());
  result.cpu_seconds = CpuSeconds() - cpu_before;
  return result;
}

}  // namespace mea
