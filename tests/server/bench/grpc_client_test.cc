#include "server/bench/grpc_client.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "engine/refusal.h"
#include "server/bench/cache_watch.h"
#include "server/bench/traffic.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

BenchRequest Ask(int max_tokens, int cancel_after = 0) {
  return {.token_ids = {'h', 'e', 'y'}, .max_tokens = max_tokens, .cancel_after = cancel_after};
}

class GrpcBenchClientTest : public ::testing::Test {
 protected:
  RequestRecord Run(ServerFixture& f, const BenchRequest& request, BenchCallOptions options = {}) {
    const auto client = GrpcBenchClients(f.NewChannel(), std::move(options))();
    return client->Run(request, BenchClock::now(), live_);
  }
  LiveCounts live_;
};

TEST_F(GrpcBenchClientTest, RecordsEveryTokenAndTheUsage) {
  ServerFixture f;
  f.engine.SetAnswer(std::string(50, 'a'));
  const RequestRecord record = Run(f, Ask(20));
  EXPECT_TRUE(record.ok()) << record.status << record.message;
  EXPECT_EQ(record.num_tokens, 20);
  EXPECT_EQ(record.completion_tokens, 20);
  EXPECT_EQ(record.prompt_tokens, 3);
  EXPECT_EQ(2 * record.kv_bytes, record.kv_bytes_uncompressed);
  double before = 0;
  int tokens = 0;
  for (const TokenArrival& arrival : record.arrivals) {
    EXPECT_GE(arrival.seconds, before);
    before = arrival.seconds;
    tokens += arrival.tokens;
  }
  EXPECT_EQ(tokens, 20);
  EXPECT_GE(record.e2e, before);
  EXPECT_EQ(live_.tokens, 20);
  EXPECT_EQ(f.engine.last_request().sampling.temperature, 0);
}

TEST_F(GrpcBenchClientTest, CompletionsGoOnUnlessTheyMayEnd) {
  ServerFixture f;
  f.engine.SetAnswer("abc");
  EXPECT_EQ(Run(f, Ask(20)).num_tokens, 20);
  EXPECT_LT(Run(f, Ask(20), {.ignore_eos = false}).num_tokens, 5);
}

TEST_F(GrpcBenchClientTest, TurnsAwayAfterAsManyTokensAsPlanned) {
  ServerFixture f({.automatic = false});
  std::thread client([&] {
    const RequestRecord record = Run(f, Ask(100, 3));
    EXPECT_TRUE(record.cancelled);
    EXPECT_FALSE(record.ok());
    EXPECT_EQ(record.status, "CANCELLED");
    EXPECT_GE(record.num_tokens, 3);
  });
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Step(3);
  EXPECT_TRUE(f.engine.AwaitCancels(1));
  client.join();
  f.engine.Step();
  EXPECT_EQ(f.engine.stats().num_running, 0);
  EXPECT_EQ(live_.failed, 0);
}

TEST_F(GrpcBenchClientTest, RefusalIsRecordedWithItsStatusAndAdvice) {
  ServerFixture f;
  f.engine.RefuseNext(ResourceExhausted("the queue is full", "QUEUE_FULL", absl::Seconds(1)));
  const RequestRecord record = Run(f, Ask(5));
  EXPECT_EQ(record.status, "RESOURCE_EXHAUSTED");
  EXPECT_EQ(record.message, "the queue is full");
  EXPECT_TRUE(record.retry_told);
  EXPECT_TRUE(record.arrivals.empty());
  EXPECT_EQ(live_.failed, 1);
  EXPECT_EQ(live_.running, 0);
}

TEST_F(GrpcBenchClientTest, TimeoutIsTheDeadlineOfTheRequest) {
  ServerFixture f({.automatic = false});
  EXPECT_EQ(Run(f, Ask(5), {.timeout_s = 0.05}).status, "DEADLINE_EXCEEDED");
}

TEST_F(GrpcBenchClientTest, ManyStreamsShareAConnection) {
  ServerFixture f({.max_num_seqs = 64, .max_queued_requests = 64});
  f.engine.SetAnswer(std::string(100, 'a'));
  const auto prompts =
      Prompts::Create({.output = {.low = 5, .high = 60}, .vocab_size = 256, .cancel_rate = 0.2});
  const TrafficResult result = RunTraffic({.concurrency = 64, .num_requests = 200}, *prompts,
                                          GrpcBenchClients(f.NewChannel(), {}), live_);
  ASSERT_EQ(result.records.size(), 200u);
  for (const RequestRecord& record : result.records) {
    EXPECT_TRUE(record.ok() || record.cancelled) << record.status << ": " << record.message;
    if (record.ok()) {
      EXPECT_EQ(record.num_tokens, record.completion_tokens);
    }
  }
  EXPECT_TRUE(f.engine.AwaitInFlight(0));
}

TEST_F(GrpcBenchClientTest, ServerSaysWhoItIs) {
  ServerFixture f;
  const auto facts = AskServer(f.channel, "here");
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->model, "fake");
  EXPECT_EQ(facts->vocab_size, kVocabSize);
}

TEST(CacheWatchTest, KeepsTheMostThatRequestsHeld) {
  ServerFixture f({.automatic = false});
  CacheWatch watch(f.channel, absl::Milliseconds(1));
  const auto context = f.Context();
  v1::GenerateRequest request = TextRequest(std::string(40, 'a'), 100);  // three pages
  const auto reader = f.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  f.engine.Step();
  for (int i = 0; i < 10'000 && watch.peak().used_bytes == 0; ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  context->TryCancel();
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  EXPECT_EQ(f.engine.stats().kv.used_pages, 0);
  const CachePeak peak = watch.Stop();
  EXPECT_EQ(peak.used_bytes, 3 * 16 * 64);
  EXPECT_EQ(peak.used_bytes_uncompressed, 2 * peak.used_bytes);
  EXPECT_GT(peak.total_bytes, peak.used_bytes);
}

}  // namespace
}  // namespace mea::testing
