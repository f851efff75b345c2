#include "server/bench/traffic.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "absl/synchronization/mutex.h"

namespace mea {
namespace {

// Answers after a millisecond; keeps what it was asked.
struct FakeServer {
  absl::Mutex mu;
  std::multiset<std::vector<int32_t>> prompts;
  int running = 0;
  int most_running = 0;
};

class FakeClient final : public BenchClient {
 public:
  explicit FakeClient(FakeServer& server) : server_(server) {}

  RequestRecord Run(const BenchRequest& request, BenchClock::time_point due,
                    LiveCounts& live) override {
    RequestRecorder recorder(request, live);
    {
      absl::MutexLock lock(&server_.mu);
      server_.prompts.insert(request.token_ids);
      server_.most_running = std::max(server_.most_running, ++server_.running);
    }
    EXPECT_LE(due, BenchClock::now());
    recorder.Start(due);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    recorder.Tokens(1, BenchClock::now());
    recorder.End(kOkStatus);
    absl::MutexLock lock(&server_.mu);
    --server_.running;
    return std::move(recorder.record());
  }

 private:
  FakeServer& server_;
};

class TrafficTest : public ::testing::Test {
 protected:
  TrafficResult Run(const TrafficOptions& options) {
    return RunTraffic(
        options, prompts_, [this] { return std::make_unique<FakeClient>(server_); }, live_);
  }

  FakeServer server_;
  LiveCounts live_;
  const Prompts prompts_ = *Prompts::Create({.vocab_size = 1000});
};

TEST_F(TrafficTest, SendsEveryPromptOnceOverAsManyStreamsAsAllowed) {
  const TrafficResult result = Run({.concurrency = 4, .num_requests = 50});
  EXPECT_EQ(result.records.size(), 50u);
  std::multiset<std::vector<int32_t>> expected;
  for (int i = 0; i < 50; ++i) expected.insert(prompts_.Make(i).token_ids);
  EXPECT_EQ(server_.prompts, expected);
  EXPECT_LE(server_.most_running, 4);
  EXPECT_GE(server_.most_running, 2);
  EXPECT_EQ(live_.running, 0);
  EXPECT_EQ(live_.ended, 50);
  EXPECT_EQ(live_.tokens, 50);
  EXPECT_GE(result.seconds, 50 * 0.001 / 4);
}

TEST_F(TrafficTest, WarmUpHasPromptsOfItsOwn) {
  Run({.concurrency = 1, .num_requests = 2, .first_number = 7});
  EXPECT_EQ(server_.prompts.count(prompts_.Make(7).token_ids), 1u);
  EXPECT_EQ(server_.prompts.count(prompts_.Make(8).token_ids), 1u);
}

TEST_F(TrafficTest, DurationEndsTheArrivals) {
  const TrafficResult closed = Run({.concurrency = 2, .duration_s = 0.05});
  EXPECT_GE(closed.records.size(), 2u);  // one of each stream
  EXPECT_GE(closed.seconds, 0.05);
  // As many arrivals as the process has in that time, however slow this machine is.
  const ArrivalOptions poisson{.kind = ArrivalKind::kPoisson, .rate = 400, .seed = 5};
  Arrivals arrivals(poisson);
  size_t expected = 0;
  while (arrivals.Next() < 0.05) ++expected;
  EXPECT_EQ(Run({.arrivals = poisson, .duration_s = 0.05}).records.size(), expected);
}

TEST_F(TrafficTest, RequestsThatFindNoStreamFreeAreLateAndSaySo) {
  TrafficOptions options{.arrivals = {.kind = ArrivalKind::kPoisson, .rate = 1e5},
                         .concurrency = 1,
                         .num_requests = 20};
  const TrafficResult result = Run(options);
  EXPECT_GT(result.records.back().late, 0.01);  // nineteen milliseconds at least, one after another
}

}  // namespace
}  // namespace mea
