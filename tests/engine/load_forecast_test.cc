#include "engine/load_forecast.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/engine/scheduler_harness.h"

namespace mea::testing {
namespace {

constexpr StepTime kStepTime{.step = 1, .prompt_token = 0.01, .decode_token = 0.05};

Request RequestOf(int prompt_length, int max_tokens, int priority = 0) {
  Request request{.id = "r", .prompt = std::vector<int32_t>(prompt_length, 1)};
  request.stopping = {.max_tokens = max_tokens, .ignore_eos = true};
  request.priority = priority;
  return request;
}

// A scheduler whose steps take exactly kStepTime, with a clock.
class TimedScheduler {
 public:
  // `prompts_beside_decodes`: tokens in a step in which something decodes.
  TimedScheduler(int num_pages, SchedulerLimits limits,
                 int prompts_beside_decodes = kUnlimitedPromptTokens)
      : harness_(num_pages, limits), prompts_beside_decodes_(prompts_beside_decodes) {}

  SchedulerHarness& harness() { return harness_; }
  double now() const { return now_; }

  LoadForecast MakeForecast() {
    LoadForecast forecast = harness_.scheduler().MakeForecast(1 << 20);
    forecast.prompt_budget = std::min(forecast.prompt_budget, NextPromptBudget());
    forecast.step_time = kStepTime;
    forecast.is_known = true;
    return forecast;
  }
  // Seconds, as reckoned now, until a request that arrives now has ended.
  double Forecast(const Request& request) {
    const LoadForecast forecast = MakeForecast();
    return SecondsUntilEnd(forecast, {}, LeastWork(forecast, request));
  }
  void Step() {
    const Schedule schedule = harness_.scheduler().Next(NextPromptBudget());
    int prompt_tokens = 0, decode_tokens = 0;
    for (const ScheduledChunk& chunk : schedule) {
      (chunk.is_decode ? decode_tokens : prompt_tokens) += chunk.num_tokens;
    }
    harness_.Run(schedule);
    now_ += kStepTime.Seconds(1, prompt_tokens, decode_tokens);
  }
  bool idle() const { return harness_.alive().empty(); }

 private:
  int NextPromptBudget() {
    return harness_.scheduler().load().num_decodes > 0 ? prompts_beside_decodes_
                                                       : kUnlimitedPromptTokens;
  }

  SchedulerHarness harness_;
  const int prompts_beside_decodes_;
  double now_ = 0;
};

TEST(LoadForecastTest, ARequestAloneTakesItsOwnSteps) {
  TimedScheduler timed(100, {.max_num_seqs = 4, .max_batch_tokens = 32});
  const Request request = RequestOf(70, 11);
  const double seconds = timed.Forecast(request);
  timed.harness().Add(request);
  while (!timed.idle()) timed.Step();
  EXPECT_DOUBLE_EQ(seconds, timed.now());
  EXPECT_DOUBLE_EQ(seconds, 3 + 0.7 + 10 * 1.05);
  const LoadForecast forecast = timed.MakeForecast();
  EXPECT_DOUBLE_EQ(SecondsAlone(forecast, LeastWork(forecast, request)), seconds);
}

TEST(LoadForecastTest, AQueueIsReckonedToItsEnd) {
  TimedScheduler timed(100, {.max_num_seqs = 2, .max_batch_tokens = 32});
  for (int i = 0; i < 6; ++i) timed.harness().Add(RequestOf(10, 20));
  const double seconds = timed.Forecast(RequestOf(10, 20));
  timed.harness().Add(RequestOf(10, 20));
  while (!timed.idle()) timed.Step();
  EXPECT_NEAR(seconds, timed.now(), 0.01 * timed.now());
}

TEST(LoadForecastTest, AShortPromptIsForecastBehindALongOne) {
  TimedScheduler timed(700, {.max_num_seqs = 4, .max_batch_tokens = 512}, 20);
  timed.harness().Add(RequestOf(10, 1000));
  timed.Step();
  timed.harness().Add(RequestOf(10'000, 2));
  timed.Step();
  const Request request = RequestOf(10, 30);
  const double forecast = timed.Forecast(request);
  const double start = timed.now();
  const Sequence* own = timed.harness().Add(request);
  while (std::ranges::count(timed.harness().alive(), own) > 0) timed.Step();
  EXPECT_NEAR(forecast, timed.now() - start, 0.1 * forecast);
}

TEST(LoadForecastTest, PagesAreWaitedForToo) {
  TimedScheduler timed(4, {.max_num_seqs = 8, .max_batch_tokens = 100});
  timed.harness().Add(RequestOf(40, 8));  // three pages of four
  timed.Step();
  const double small = timed.Forecast(RequestOf(10, 2));
  const double large = timed.Forecast(RequestOf(30, 2));
  EXPECT_LT(small, 3);
  EXPECT_GT(large, 7);
}

TEST(LoadForecastTest, WhoMayEndEarlyIsExpectedToDrawWhatOthersDrew) {
  Request request = RequestOf(10, 100);
  EXPECT_EQ(ExpectedOutput(request, 0.25, 1000), 100);
  EXPECT_EQ(ExpectedOutput(request, 0.25, 60), 50) << "the context ends it";
  request.stopping.is_watched = true;
  EXPECT_EQ(ExpectedOutput(request, 0.25, 1000), 25);
  EXPECT_EQ(ExpectedOutput(request, 0, 1000), 1);
  const KvLayout layout{.page_size = 16};
  LoadForecast forecast{.max_context = 1000, .layout = &layout, .output_share = 0.25};
  EXPECT_EQ(LeastWork(forecast, request).output_tokens, 1);
  EXPECT_EQ(LeastWork(forecast, request).prompt_tokens, 10);
  forecast.cached_share = 0.5;
  EXPECT_EQ(LeastWork(forecast, request).prompt_tokens, 1) << "all of it may be cached";
  EXPECT_EQ(ExpectedWork(forecast, request).prompt_tokens, 5);
  request.bypass_prefix_cache = true;
  EXPECT_EQ(LeastWork(forecast, request).prompt_tokens, 10);
}

TEST(LoadForecastTest, TheQueueHasRoomWhenSoManyHaveBegun) {
  TimedScheduler timed(100, {.max_num_seqs = 1, .max_batch_tokens = 32});
  for (int i = 0; i < 4; ++i) timed.harness().Add(RequestOf(10, 5));
  timed.Step();
  const LoadForecast forecast = timed.MakeForecast();
  const double one = SecondsUntilBegun(forecast, {}, 1, 0);
  EXPECT_NEAR(one, 4 * 1.05, 0.2);
  EXPECT_GT(SecondsUntilBegun(forecast, {}, 2, 0), one + 4);
  EXPECT_EQ(SecondsUntilBegun(forecast, {}, 0, 20), SecondsUntilBegun(forecast, {}, 2, 0));
}

// What decides who is refused: nothing ends before the time that was reckoned when it arrived,
// whoever came later; and that time is no idle one. Others may decode later than reckoned, and so
// not in its time: a tenth is allowed for that, half of what Admission allows.
TEST(LoadForecastTest, NoRequestEndsBeforeItsForecast) {
  const uint64_t seed = 20261121;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto below = [&](int bound) { return static_cast<int>(random() % bound); };
  struct Forecast {
    double arrival, end;
  };
  for (int round = 0; round < 30; ++round) {
    TimedScheduler timed(
        8 + below(30),
        {.max_num_seqs = 1 + below(6), .max_batch_tokens = 8 + below(60), .steps_per_priority = 20},
        round % 2 == 0 ? kUnlimitedPromptTokens : 4 + below(20));
    std::map<const Sequence*, Forecast> open;
    double forecast_sum = 0, truth_sum = 0;
    for (int i = 0; i < 3000 || !timed.idle(); ++i) {
      if (i < 3000 && below(8) == 0 && timed.harness().alive().size() < 40) {
        Request request = RequestOf(1 + below(60), 1 + below(60), below(3));
        const double end = timed.now() + timed.Forecast(request);
        open[timed.harness().Add(std::move(request))] = {timed.now(), end};
      }
      timed.Step();
      for (auto it = open.begin(); it != open.end();) {
        if (std::ranges::find(timed.harness().alive(), it->first) !=
            timed.harness().alive().end()) {
          ++it;
          continue;
        }
        const Forecast& promised = it->second;
        ASSERT_LE(0.9 * (promised.end - promised.arrival), timed.now() - promised.arrival + 1e-9)
            << "round " << round << ", step " << i;
        forecast_sum += promised.end - promised.arrival;
        truth_sum += timed.now() - promised.arrival;
        it = open.erase(it);
      }
    }
    EXPECT_GT(forecast_sum, 0.5 * truth_sum) << "round " << round;
  }
}

}  // namespace
}  // namespace mea::testing
