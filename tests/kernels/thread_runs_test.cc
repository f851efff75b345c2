#include "kernels/cpu/thread_runs.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace mea::cpu {
namespace {

TEST(ThreadRunsTest, AThreadTakesNeighboursAndThenTheLastOfOthers) {
  ThreadRuns runs;
  runs.Deal(7, 3);  // 0 1, 2 3, 4 5 6
  EXPECT_EQ(runs.Take(1), 2);
  EXPECT_EQ(runs.Take(2), 4);
  EXPECT_EQ(runs.Take(1), 3);
  EXPECT_EQ(runs.Take(1), 6);
  EXPECT_EQ(runs.Take(2), 5);
  EXPECT_EQ(runs.Take(2), 1);
  EXPECT_EQ(runs.Take(0), 0);
}

TEST(ThreadRunsTest, FewerItemsThanThreads) {
  ThreadRuns runs;
  runs.Deal(1, 4);
  EXPECT_EQ(runs.Take(0), 0);
  runs.Deal(0, 4);
  runs.Deal(2, 1);
  EXPECT_EQ(runs.Take(0), 0);
  EXPECT_EQ(runs.Take(0), 1);
}

TEST(ThreadRunsTest, EveryItemIsTakenOnceByThreadsThatRace) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  ThreadRuns runs;
  for (int64_t num_items = 0; num_items < 300; ++num_items) {
    std::vector<std::atomic<int>> taken(num_items);
    runs.Deal(num_items, kThreads);
    pool.ParallelFor(num_items, [&](int64_t, int thread) { ++taken[runs.Take(thread)]; });
    for (const std::atomic<int>& times : taken) ASSERT_EQ(times, 1);
  }
}

}  // namespace
}  // namespace mea::cpu
