// The wall clock is set by an hour while a server serves.
#include <gtest/gtest.h>
#include <httplib.h>

#include <regex>

#include "absl/time/clock.h"
#include "engine/clock.h"
#include "server/access/access.h"
#include "server/access/key_file.h"
#include "server/access/minute_rate.h"
#include "server/notification.h"
#include "server/open_calls.h"
#include "tests/server/access/test_certificates.h"
#include "tests/server/server_fixture.h"
#include "tests/support/wall_clock.h"

namespace mea::testing {
namespace {

class ClockTest : public ::testing::TestWithParam<int> {
 protected:
  ~ClockTest() override { SetWallClockAhead(absl::ZeroDuration()); }
  static void SetClock() { SetWallClockAhead(absl::Hours(GetParam())); }
};

std::vector<int32_t> Endless(const Request&) { return std::vector<int32_t>(100'000, 'x'); }

TEST_P(ClockTest, NoRequestEndsEarlyAndNoneOutlivesItsDeadline) {
  ServerFixture f({.automatic = false});
  f.engine.SetScript(Endless);
  const auto patient_context = f.Context(absl::Minutes(30));
  const auto patient = f.inference->GenerateStream(patient_context.get(), TextRequest("hey", 50));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  const auto hasty_context = f.Context(absl::Milliseconds(200));
  const auto hasty = f.inference->GenerateStream(hasty_context.get(), TextRequest("hey", 50'000));
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  std::thread over_http([&] {
    httplib::Client client("http://" + f.server->http_address());
    client.set_read_timeout(20);
    const auto answer = client.Post("/v1/completions", {{"X-Request-Timeout", "0.2"}},
                                    R"({"model": "fake", "prompt": "hey", "max_tokens": 50000})",
                                    "application/json");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 408) << answer->body;
  });
  EXPECT_TRUE(f.engine.AwaitSubmitted(3));
  SetClock();
  const auto late_context = f.Context(absl::Minutes(30));
  const auto late = f.inference->GenerateStream(late_context.get(), TextRequest("hey", 50));
  for (int i = 0; i < 4000 && f.engine.num_submitted() < 4; ++i) {
    absl::SleepFor(absl::Milliseconds(5));  // waits of Abseil would go by the clock that was set
  }
  // Long enough for the deadlines, in fewer steps than the hasty have tokens.
  for (int i = 0; i < 1000 && f.engine.stats().num_running > 0; ++i) {
    f.engine.Step();
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(f.engine.stats().num_running, 0);
  f.engine.FailAll(absl::InternalError("goes on past its deadline"));
  f.engine.Step();
  over_http.join();
  EXPECT_EQ(ReadAll(*hasty).status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  for (auto* reader : {patient.get(), late.get()}) {
    const StreamResult result = ReadAll(*reader);
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_EQ(result.token_ids.size(), 50u);
  }
}

// Times in the lines of an event are neither negative nor an hour.
void ExpectTimesOfMoments(const std::vector<std::string>& lines, const std::string& event) {
  int num_times = 0;
  const std::regex a_time("_ms=([-0-9.]+)");
  for (const std::string& line : lines) {
    if (line.find(event) == line.npos) continue;
    for (std::sregex_iterator it(line.begin(), line.end(), a_time), end; it != end; ++it) {
      const double time_ms = std::stod((*it)[1]);
      EXPECT_GE(time_ms, 0) << line;
      EXPECT_LT(time_ms, absl::ToDoubleMilliseconds(absl::Minutes(30))) << line;
      ++num_times;
    }
  }
  EXPECT_GE(num_times, 1);
}

TEST_P(ClockTest, NoTimeOfARequestIsNegativeOrAnHour) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context(absl::Hours(10));
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  SetClock();
  f.engine.Step(6);
  ASSERT_TRUE(ReadAll(*reader).status.ok());
  ExpectTimesOfMoments(f.StopAndReadLog(), "request finished");
}

TEST_P(ClockTest, AKeyIsNeitherLockedOutNorGivenMore) {
  const TestFiles files;
  files.Write("keys.jsonl", KeyFileLine({.name = "alice",
                                         .rights = {true, false, false},
                                         .hash = HashOf("secret"),
                                         .limits = {.requests_per_minute = 2}}) +
                                "\n");
  const auto access = Access::Load(files.Path("keys.jsonl"));
  ASSERT_TRUE(access.ok()) << access.status();
  ASSERT_TRUE((*access)->Admit("Bearer secret").ok());
  SetClock();
  EXPECT_TRUE((*access)->Admit("Bearer secret").ok());
  const absl::Status refused = (*access)->Admit("Bearer secret").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
}

TEST_P(ClockTest, TheEngineIsSilentSinceItsLastSignOfLife) {
  ServerFixture f;
  f.engine.StopHeart();
  SetClock();
  f.AwaitLog("engine stalled");
  ExpectTimesOfMoments(f.StopAndReadLog(), "engine stalled");
}

TEST_P(ClockTest, WaitsEndInTime) {
  SetClock();
  EXPECT_FALSE(Notification().WaitForNotificationWithTimeout(absl::Milliseconds(10)));
  OpenCalls calls;
  calls.Enter();
  calls.AwaitNone(Now() + absl::Milliseconds(10));
}

TEST_P(ClockTest, ADrainLastsAsLongAsItMay) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context(absl::Hours(10));
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  SetClock();
  std::thread steps([&] {
    absl::SleepFor(absl::Milliseconds(100));
    f.engine.Step(6);
  });
  f.server->Drain(Now() + absl::Seconds(20));
  steps.join();
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

INSTANTIATE_TEST_SUITE_P(SetForwardAndBack, ClockTest, ::testing::Values(1, -1));

}  // namespace
}  // namespace mea::testing
