#include "server/bench/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace mea {
namespace {

TEST(StatisticsTest, QuantilesLieBetweenTheNearestValues) {
  // numpy.percentile([1, 2, 4, 8], [0, 50, 90, 100])
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(Quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(Quantile(values, 0.5), 3);
  EXPECT_DOUBLE_EQ(Quantile(values, 0.9), 6.8);
  EXPECT_DOUBLE_EQ(Quantile(values, 1), 8);
  EXPECT_DOUBLE_EQ(Quantile({7}, 0.99), 7);
  EXPECT_DOUBLE_EQ(Quantile({}, 0.5), 0);
}

TEST(StatisticsTest, SummaryDoesNotDependOnTheOrder) {
  std::vector<double> values(101);
  std::iota(values.begin(), values.end(), 0.0);  // 0..100
  for (int round = 0; round < 2; ++round) {
    const Summary s = Summarize(values);
    EXPECT_EQ(s.count, 101);
    EXPECT_DOUBLE_EQ(s.mean, 50);
    EXPECT_DOUBLE_EQ(s.median, 50);
    EXPECT_DOUBLE_EQ(s.p90, 90);
    EXPECT_DOUBLE_EQ(s.p99, 99);
    EXPECT_DOUBLE_EQ(s.max, 100);
    std::reverse(values.begin(), values.end());
  }
  EXPECT_EQ(Summarize({}).count, 0);
}

TEST(StatisticsTest, HistogramHasEveryValueInItsBin) {
  const std::vector<HistogramBin> bins = MakeHistogram({0.001, 0.0015, 0.002, 0.03});
  ASSERT_EQ(bins.size(), 5u);  // 1-2, 2-5, 5-10, 10-20, 20-50 ms
  const std::vector<double> edges = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05};
  const std::vector<int64_t> counts = {2, 1, 0, 0, 1};
  for (size_t i = 0; i < bins.size(); ++i) {
    EXPECT_NEAR(bins[i].low, edges[i], 1e-12);
    EXPECT_NEAR(bins[i].high, edges[i + 1], 1e-12);
    EXPECT_EQ(bins[i].count, counts[i]) << i;
  }
}

TEST(StatisticsTest, HistogramTakesEdgesAndWhatIsNoLatency) {
  for (const double value : {1e-6, 0.5, 1.0, 2.0, 5.0, 10.0, 99.99, 1e4}) {
    const std::vector<HistogramBin> bins = MakeHistogram({value});
    ASSERT_EQ(bins.size(), 1u) << value;
    EXPECT_LE(bins[0].low, value * (1 + 1e-12));
    EXPECT_GT(bins[0].high, value);
  }
  EXPECT_EQ(MakeHistogram({0.0, -1.0})[0].count, 2);
  EXPECT_TRUE(MakeHistogram({}).empty());
}

}  // namespace
}  // namespace mea
