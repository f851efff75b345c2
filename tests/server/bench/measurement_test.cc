#include "server/bench/measurement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/bench/report.h"

namespace mea {
namespace {

using ::testing::HasSubstr;

// Tokens after 0.1 s, then every `gap` seconds; the end comes with the last.
RequestRecord Completed(int tokens, double gap) {
  RequestRecord record{.status = kOkStatus};
  for (int i = 0; i < tokens; ++i) record.arrivals.push_back({0.1 + i * gap, 1});
  record.num_tokens = tokens;
  record.completion_tokens = tokens;
  record.prompt_tokens = 10;
  record.e2e = record.arrivals.back().seconds;
  return record;
}

RequestRecord Refused(double seconds) {
  return {.e2e = seconds,
          .status = "RESOURCE_EXHAUSTED",
          .message = "the queue is full",
          .retry_told = true};
}

TrafficResult SomeResult() {
  TrafficResult result{.seconds = 2, .cpu_seconds = 0.5};
  result.records = {Completed(5, 0.01), Completed(3, 0.05), Refused(0.002), Refused(0.004)};
  RequestRecord cancelled = Completed(2, 0.01);
  cancelled.cancelled = true;
  cancelled.status = "CANCELLED";
  result.records.push_back(cancelled);
  return result;
}

TEST(MeasurementTest, LatenciesAreThoseOfRequestsThatEndedWell) {
  const Measurement m = Measure(SomeResult(), std::nullopt);
  EXPECT_EQ(m.completed, 2);
  EXPECT_EQ(m.cancelled, 1);
  EXPECT_EQ(m.ttft.count, 2);
  EXPECT_NEAR(m.ttft.median, 0.1, 1e-12);
  EXPECT_NEAR(m.tpot.mean, 0.03, 1e-12);  // of 0.01 and 0.05
  EXPECT_EQ(m.itl.count, 4 + 2);
  EXPECT_NEAR(m.itl.max, 0.05, 1e-12);
  EXPECT_NEAR(m.e2e.max, 0.2, 1e-12);
  EXPECT_FALSE(m.good.has_value());
}

TEST(MeasurementTest, TokensAreAllThatArrived) {
  const Measurement m = Measure(SomeResult(), std::nullopt);
  EXPECT_EQ(m.output_tokens, 5 + 3 + 2);
  EXPECT_EQ(m.prompt_tokens, 20);
  EXPECT_DOUBLE_EQ(m.PerSecond(m.output_tokens), 5);
}

TEST(MeasurementTest, FailuresAreCountedByStatusWithTheTimeToTheAnswer) {
  const Measurement m = Measure(SomeResult(), std::nullopt);
  ASSERT_EQ(m.failures.size(), 1u);
  const Failures& refused = m.failures.at("RESOURCE_EXHAUSTED");
  EXPECT_EQ(refused.answer.count, 2);
  EXPECT_DOUBLE_EQ(refused.answer.median, 0.003);
  EXPECT_EQ(refused.with_retry, 2);
  EXPECT_EQ(refused.example, "the queue is full");
}

TEST(MeasurementTest, GoodIsWhatKeepsEveryLimit) {
  const auto good = [](const std::string& limits) {
    return *Measure(SomeResult(), *ParseGoodput(limits)).good;
  };
  EXPECT_EQ(good("ttft:200ms"), 2);
  EXPECT_EQ(good("ttft:200ms,tpot:20ms"), 1);
  EXPECT_EQ(good("e2e:150ms"), 1);
  EXPECT_EQ(good("ttft:1ms"), 0);
  EXPECT_THAT(std::string(ParseGoodput("ttft:500ms,speed:9").status().message()),
              HasSubstr("--goodput 'speed:9' is not"));
  EXPECT_FALSE(ParseGoodput("ttft").ok());
  EXPECT_FALSE(ParseGoodput("tpot:-1s").ok());
}

TEST(MeasurementTest, TokensThatCameTogetherAreCountedBetweenMessages) {
  RequestRecord record{.e2e = 0.5, .status = kOkStatus};
  record.arrivals = {{0.1, 1}, {0.3, 3}};
  record.num_tokens = record.completion_tokens = 4;
  const Measurement m = Measure({.records = {record}, .seconds = 1}, std::nullopt);
  EXPECT_EQ(m.itl.count, 1);
  EXPECT_EQ(m.messages, 2);
  EXPECT_NEAR(m.tpot.mean, 0.4 / 3, 1e-12);
}

TEST(ReportTest, TableAndJsonSayTheSame) {
  ServeBenchSetup setup{.system = "mea 0.1.0", .server = "here:1", .model = "m"};
  setup.goodput = "ttft:200ms";
  setup.prompts = DescribePrompts({.prefix_tokens = 5, .vocab_size = 9, .cancel_rate = 0.1});
  const Measurement m = Measure(SomeResult(), *ParseGoodput(setup.goodput));
  const CachePeak cache{.used_bytes = 1024, .used_bytes_uncompressed = 2048, .total_bytes = 4096};
  const std::string table = ServeReport(setup, m, cache);
  EXPECT_THAT(table, HasSubstr("random ids, 128 tokens in after one of 1 prefixes of 5, 128 out, "
                               "10 % cancelled"));
  EXPECT_THAT(table, HasSubstr("2 completed, 1 cancelled as planned, 2 failed in 2.00 s"));
  EXPECT_THAT(table, HasSubstr("RESOURCE_EXHAUSTED: 2, told after 3.00 ms (median)"));
  EXPECT_THAT(table, HasSubstr("goodput      1.00 requests/s within ttft:200ms (2 of 2)"));
  EXPECT_THAT(table, HasSubstr("1.00 KiB used, 2.00 KiB uncompressed (0.500)"));
  EXPECT_THAT(table, HasSubstr("100 ..    200 ms        2 ####"));  // the histogram of TTFT
  const auto json = nlohmann::json::parse(ServeReportJson(setup, m, cache));
  EXPECT_EQ(json["completed"], 2);
  EXPECT_NEAR(json["ttft"]["median"].get<double>(), 0.1, 1e-12);
  EXPECT_EQ(json["failures"]["RESOURCE_EXHAUSTED"]["seconds_to_answer"]["count"], 2);
  EXPECT_EQ(json["kv_cache"]["peak_used_bytes"], 1024);
  EXPECT_EQ(json["goodput"]["requests"], 2);
}

TEST(ReportTest, NothingFoundInTheCacheIsSaidWhereTheServerCountsIt) {
  const Measurement m = Measure(SomeResult(), std::nullopt);
  const std::string share = "% found in the prefix cache)";
  EXPECT_THAT(ServeReport({.tells_cached = true}, m, std::nullopt), HasSubstr(share));
  Measurement none = m;
  none.cached_tokens = 0;
  EXPECT_THAT(ServeReport({.tells_cached = true}, none, std::nullopt), HasSubstr("(0.0 " + share));
  EXPECT_THAT(ServeReport({}, none, std::nullopt), ::testing::Not(HasSubstr(share)));
}

TEST(ReportTest, RunWithoutSuccessIsReportedToo) {
  const Measurement m = Measure({.records = {Refused(0.1)}, .seconds = 1}, std::nullopt);
  const std::string table = ServeReport({}, m, std::nullopt);
  EXPECT_THAT(table, HasSubstr("0 completed"));
  EXPECT_THAT(table, HasSubstr("the queue is full"));
  EXPECT_EQ(nlohmann::json::parse(ServeReportJson({}, m, std::nullopt))["ttft"]["count"], 0);
}

}  // namespace
}  // namespace mea
