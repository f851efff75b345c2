#include "engine/admission.h"

#include <gtest/gtest.h>

#include "engine/refusal.h"

namespace mea::testing {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

Request RequestOf(int max_tokens, absl::Duration patience) {
  Request request{.id = "r", .prompt = {1, 2, 3}, .deadline = kStart + patience};
  request.stopping = {.max_tokens = max_tokens, .ignore_eos = true};
  return request;
}

// A step takes 10 ms.
LoadForecast IdleForecast() {
  static const KvLayout layout{.page_size = 16};
  return {.step_time = {.step = 0.01},
          .is_known = true,
          .max_num_seqs = 1,
          .max_batch_tokens = 64,
          .prompt_budget = 64,
          .max_context = 1000,
          .layout = &layout,
          .num_available_pages = 100};
}

TEST(AdmissionTest, RefusesWhatCannotEndInTimeAndSaysHowLateItWouldBe) {
  Admission admission;
  EXPECT_FALSE(admission.WantsForecast(kStart)) << "nobody has asked";
  EXPECT_TRUE(admission.Check(RequestOf(500, absl::Seconds(1)), kStart).ok());
  ASSERT_TRUE(admission.WantsForecast(kStart));
  admission.Publish(IdleForecast(), 0, kStart);
  // 500 tokens take five seconds, four with the caution that is taken.
  EXPECT_TRUE(admission.Check(RequestOf(500, absl::Seconds(5)), kStart).ok());
  const absl::Status status = admission.Check(RequestOf(500, absl::Seconds(1)), kStart);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RefusalReason(status), "DEADLINE_UNREACHABLE");
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryDelay(status)), 3, 0.1);
  EXPECT_TRUE(admission.Check(RequestOf(50, absl::Seconds(1)), kStart).ok());
  EXPECT_TRUE(admission.Check(RequestOf(500, absl::InfiniteDuration()), kStart).ok());
}

TEST(AdmissionTest, RefusesNobodyBeforeEnoughStepsWereMeasured) {
  Admission admission;
  EXPECT_TRUE(admission.Check(RequestOf(500, absl::Seconds(1)), kStart).ok());
  LoadForecast unknown = IdleForecast();
  unknown.is_known = false;
  admission.Publish(unknown, 0, kStart);
  EXPECT_TRUE(admission.Check(RequestOf(500, absl::Seconds(1)), kStart).ok());
  EXPECT_EQ(admission.UntilRoom(1, 0, kStart), absl::Seconds(1));
}

TEST(AdmissionTest, CountsWhatWasSubmittedSinceTheForecast) {
  Admission admission;
  const Request request = RequestOf(100, absl::Seconds(1.5));
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Publish(IdleForecast(), 0, kStart);
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Submitted(request);
  EXPECT_FALSE(admission.Check(request, kStart).ok()) << "one place, and another goes first";
  // In the inbox still when the next forecast is made: the forecast does not know it.
  admission.Publish(IdleForecast(), 1, kStart);
  EXPECT_FALSE(admission.Check(request, kStart).ok());
  admission.Publish(IdleForecast(), 0, kStart);
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Submitted(RequestOf(40, absl::InfiniteDuration()), 3);
  EXPECT_FALSE(admission.Check(request, kStart).ok()) << "each completion counts";
}

TEST(AdmissionTest, AnOldForecastCountsFromItsOwnTime) {
  Admission admission;
  const absl::Time later = kStart + absl::Seconds(5);
  EXPECT_TRUE(admission.Check(RequestOf(100, absl::Seconds(1)), kStart).ok());
  LoadForecast busy = IdleForecast();
  busy.work = {{.is_running = true, .output_tokens = 600, .num_pages = 1}};
  admission.Publish(busy, 0, kStart);
  EXPECT_FALSE(admission.Check(RequestOf(100, absl::Seconds(5)), kStart).ok());
  // Then the six seconds have nearly passed, and what is left is its own second.
  EXPECT_TRUE(admission.Check(RequestOf(100, absl::Seconds(5 + 1.5)), later).ok());
  EXPECT_FALSE(admission.Check(RequestOf(100, absl::Seconds(5 + 0.5)), later).ok());
}

TEST(AdmissionTest, WhereManyAreLateForecastsCountMore) {
  Admission admission;
  const Request request = RequestOf(100, absl::Milliseconds(900));  // takes a second
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Publish(IdleForecast(), 0, kStart);
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Learn(100, 0);
  EXPECT_TRUE(admission.Check(request, kStart).ok());
  admission.Learn(110, 20);
  EXPECT_FALSE(admission.Check(request, kStart).ok());
  admission.Learn(310, 20);
  EXPECT_TRUE(admission.Check(request, kStart).ok()) << "since then nobody was late";
}

TEST(AdmissionTest, ForecastsAreMadeWhileSomebodyAsks) {
  Admission admission;
  EXPECT_TRUE(admission.Check(RequestOf(1, absl::Seconds(1)), kStart).ok());
  admission.Publish(IdleForecast(), 0, kStart);
  EXPECT_FALSE(admission.WantsForecast(kStart + absl::Milliseconds(5))) << "the last is new";
  EXPECT_TRUE(admission.WantsForecast(kStart + absl::Seconds(1)));
  const absl::Time quiet = kStart + absl::Seconds(11);
  EXPECT_TRUE(admission.WantsForecast(quiet)) << "once more, to drop it";
  admission.Publish(IdleForecast(), 0, quiet);
  EXPECT_FALSE(admission.WantsForecast(quiet));
}

}  // namespace
}  // namespace mea::testing
