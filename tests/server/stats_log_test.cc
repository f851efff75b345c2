#include "server/stats_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;

class StatsLogTest : public ::testing::Test {
 protected:
  // The lines that looks at these seconds wrote.
  std::vector<std::string> Look(absl::Duration interval, const std::vector<int>& seconds) {
    LogLines lines;
    {
      Log log({}, lines.Writer());
      StatsLog stats(fixture_.engine, log, interval, absl::UnixEpoch());
      for (const int second : seconds) {
        if (second == work_at_) ComputeThree();
        stats.Look(absl::UnixEpoch() + absl::Seconds(second));
      }
    }
    return lines.lines();
  }
  void ComputeThree() {
    v1::GenerateResponse response;
    ASSERT_TRUE(fixture_.Generate(TextRequest("hey", 3), response).ok());
  }

  ServerFixture fixture_;
  int work_at_ = -1;
};

TEST_F(StatsLogTest, SaysTheThroughputOfAnIntervalWithWork) {
  work_at_ = 13;
  EXPECT_THAT(
      Look(absl::Seconds(4), {3, 8, 10, 13, 15, 21}),
      ElementsAre(EndsWith(" info stats prompt_tokens_per_s=0.6 generation_tokens_per_s=0.6 "
                           "running=0 waiting=0 kv_cache_used_percent=0.0 "
                           "prefix_hit_percent=0.0")));
}

TEST_F(StatsLogTest, NeverWithoutAnInterval) {
  work_at_ = 13;
  EXPECT_THAT(Look(absl::ZeroDuration(), {3, 13, 100}), ElementsAre());
}

}  // namespace
}  // namespace mea::testing
