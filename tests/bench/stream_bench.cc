// What the way from the engine to the client costs per token, on the loopback: from the moment the
// engine begins to tell a step to the moment a gRPC client has read the token. Server and clients
// are a process each; the engine is the tests' and computes nothing, so that a step takes no time
// of its own.
//   stream_bench [STREAMS [STEPS [MILLISECONDS_BETWEEN_STEPS [http]]]]       default: 1 500 5
// With "http" the clients are those of the OpenAI API, where an event is taken to be one token.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "kernels/check.h"
#include "server/bench/grpc_client.h"
#include "server/bench/openai_client.h"
#include "server/bench/statistics.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

struct Load {
  int num_streams;
  int num_steps;
  std::chrono::milliseconds between;
  bool over_http;
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// The clock of the whole machine: both processes read the same.
double Now() { return std::chrono::duration<double>(BenchClock::now().time_since_epoch()).count(); }

void WriteAll(int fd, const void* data, size_t size) {
  MEA_CHECK(write(fd, data, size) == static_cast<ssize_t>(size));  // less than a pipe holds
}

void ReadAll(int fd, void* data, size_t size) {
  char* to = static_cast<char*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t count = read(fd, to + done, size - done);
    MEA_CHECK(count > 0);
    done += static_cast<size_t>(count);
  }
}

// Tells its port, then the time of every step, then the CPU time that they took.
void Serve(const Load& load, int to) {
  ServerFixture f({.max_num_seqs = load.num_streams, .automatic = false});
  f.engine.SetScript([&](const Request&) { return std::vector<int32_t>(load.num_steps, 'a'); });
  const std::string address =
      load.over_http ? f.server->http_address() : f.server->listen_address();
  const int port = std::atoi(address.substr(address.rfind(':') + 1).c_str());
  WriteAll(to, &port, sizeof(port));
  MEA_CHECK(f.engine.AwaitSubmitted(load.num_streams));
  const double cpu_before = CpuSeconds();
  std::vector<double> times;
  for (int i = 0; i < load.num_steps; ++i) {
    std::this_thread::sleep_for(load.between);
    times.push_back(Now());
    f.engine.Step();
  }
  const double cpu_seconds = CpuSeconds() - cpu_before;
  f.server->Drain(absl::Now() + absl::Seconds(10));  // until the clients have read it all
  for (const double time : times) WriteAll(to, &time, sizeof(time));
  WriteAll(to, &cpu_seconds, sizeof(cpu_seconds));
}

// Seconds from the step that drew a token to its arrival, for every token of the stream but the
// first, which waits for the prompt. Times are since the machine's start, as the record's are after
// `sent`.
void AppendDelays(const RequestRecord& record, double sent, const std::vector<double>& step_times,
                  std::vector<double>& to) {
  size_t step = 0;
  for (const TokenArrival& arrival : record.arrivals) {
    for (int i = 0; i < arrival.tokens && step < step_times.size(); ++i, ++step) {
      if (step > 0) to.push_back(sent + arrival.seconds - step_times[step]);
    }
  }
}

void Measure(const Load& load, int from) {
  int port = 0;
  ReadAll(from, &port, sizeof(port));
  const std::string address = "127.0.0.1:" + std::to_string(port);
  const BenchClientFactory clients =
      load.over_http
          ? OpenAiBenchClients({"http://" + address}, {.model = "fake"})
          : GrpcBenchClients(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()), {});
  const BenchClock::time_point due = BenchClock::now();
  const double due_seconds = Now();
  const double cpu_before = CpuSeconds();
  std::vector<RequestRecord> records(load.num_streams);
  std::vector<std::thread> threads;
  LiveCounts live;
  for (RequestRecord& record : records) {
    threads.emplace_back([&] {
      const BenchRequest request{.token_ids = {'h', 'e', 'y'}, .max_tokens = load.num_steps};
      record = clients()->Run(request, due, live);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double client_cpu = CpuSeconds() - cpu_before;
  std::vector<double> step_times(load.num_steps);
  ReadAll(from, step_times.data(), step_times.size() * sizeof(double));
  double server_cpu = 0;
  ReadAll(from, &server_cpu, sizeof(server_cpu));

  std::vector<double> delays;
  double messages = 0;
  for (const RequestRecord& record : records) {
    MEA_CHECK(record.ok());
    AppendDelays(record, due_seconds + record.late, step_times, delays);
    messages += static_cast<double>(record.arrivals.size());
  }
  const Summary s = Summarize(std::move(delays));
  const double tokens = static_cast<double>(load.num_steps) * load.num_streams;
  std::printf(
      "%s, %d streams, a token each every %d ms: %.1f us from engine to client (median), %.1f "
      "(p90), "
      "%.1f (p99), %.1f (max); CPU time per token: server %.1f us, client %.1f us; %.2f tokens in "
      "a message\n",
      load.over_http ? "HTTP" : "gRPC", load.num_streams, static_cast<int>(load.between.count()),
      1e6 * s.median, 1e6 * s.p90, 1e6 * s.p99, 1e6 * s.max, 1e6 * server_cpu / tokens,
      1e6 * client_cpu / tokens, tokens / messages);
}

}  // namespace
}  // namespace mea::testing

int main(int argc, char** argv) {
  const auto argument = [&](int i, int unset) { return argc > i ? std::atoi(argv[i]) : unset; };
  const mea::testing::Load load{argument(1, 1), argument(2, 500),
                                std::chrono::milliseconds(argument(3, 5)),
                                argc > 4 && std::string_view(argv[4]) == "http"};
  int fds[2];
  MEA_CHECK(pipe(fds) == 0);
  if (const pid_t server = fork(); server > 0) {
    mea::testing::Measure(load, fds[0]);
    waitpid(server, nullptr, 0);
  } else {
    mea::testing::Serve(load, fds[1]);
  }
}
