// What the way from the engine to the client costs per token, on the loopback: from the moment the
// engine begins to tell a step to the moment a gRPC client has read the token. Server and clients
// are in this process; the engine is the tests' and computes nothing, so that a step takes no time
// of its own.
//   stream_bench [STREAMS [STEPS [MILLISECONDS_BETWEEN_STEPS]]]       default: 1 500 5
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "kernels/check.h"
#include "server/bench/grpc_client.h"
#include "server/bench/statistics.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// Seconds from the step that drew a token to its arrival, for every token of the stream but the
// first, which waits for the prompt.
void AppendDelays(const RequestRecord& record, const std::vector<double>& step_times,
                  std::vector<double>& to) {
  size_t step = 0;
  for (const TokenArrival& arrival : record.arrivals) {
    for (int i = 0; i < arrival.tokens && step < step_times.size(); ++i, ++step) {
      if (step > 0) to.push_back(record.late + arrival.seconds - step_times[step]);
    }
  }
}

void Run(int num_streams, int num_steps, std::chrono::milliseconds between) {
  ServerFixture f({.max_num_seqs = num_streams, .automatic = false});
  f.engine.SetScript([&](const Request&) { return std::vector<int32_t>(num_steps, 'a'); });
  const BenchClientFactory clients = GrpcBenchClients(f.NewChannel(), {});
  const BenchClock::time_point start = BenchClock::now();
  std::vector<RequestRecord> records(num_streams);
  std::vector<std::thread> threads;
  LiveCounts live;
  for (int i = 0; i < num_streams; ++i) {
    threads.emplace_back([&, i] {
      const BenchRequest request{.token_ids = {'h', 'e', 'y'}, .max_tokens = num_steps};
      records[i] = clients()->Run(request, start, live);
    });
  }
  MEA_CHECK(f.engine.AwaitSubmitted(num_streams));
  const double cpu_before = CpuSeconds();
  std::vector<double> step_times;
  for (int i = 0; i < num_steps; ++i) {
    std::this_thread::sleep_for(between);
    step_times.push_back(SecondsBetween(start, BenchClock::now()));
    f.engine.Step();
  }
  for (std::thread& thread : threads) thread.join();
  const double cpu_seconds = CpuSeconds() - cpu_before;
  std::vector<double> delays;
  int64_t messages = 0;
  for (const RequestRecord& record : records) {
    AppendDelays(record, step_times, delays);
    messages += std::ssize(record.arrivals);
  }
  const Summary s = Summarize(std::move(delays));
  std::printf(
      "%d streams, a token each every %d ms: %.1f us from engine to client (median), %.1f (p90), "
      "%.1f (p99), %.1f (max); %.1f us of CPU time per token, both sides; %.2f tokens in a "
      "message\n",
      num_streams, static_cast<int>(between.count()), 1e6 * s.median, 1e6 * s.p90, 1e6 * s.p99,
      1e6 * s.max, 1e6 * cpu_seconds / num_steps / num_streams,
      static_cast<double>(num_steps) * num_streams / static_cast<double>(messages));
}

}  // namespace
}  // namespace mea::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, int unset) { return argc > i ? std::atoi(argv[i]) : unset; };
  mea::testing::Run(argument(1, 1), argument(2, 500), std::chrono::milliseconds(argument(3, 5)));
}
