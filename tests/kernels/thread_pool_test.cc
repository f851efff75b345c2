#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <vector>

namespace mea {
namespace {

TEST(ThreadPoolTest, EveryItemRunsExactlyOnce) {
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (int round = 0; round < 500; ++round) {
      // Plain ints: a second visitor would be a data race for the thread sanitizer.
      std::vector<int> visits(round % 37, 0);
      pool.ParallelFor(visits.size(), [&](int64_t item, int thread) {
        ASSERT_LT(thread, num_threads);
        ++visits[item];
      });
      for (const int count : visits) EXPECT_EQ(count, 1);
    }
  }
}

// A worker late for a short loop must not take an item of the longer one that is being set up.
TEST(ThreadPoolTest, AlternatingShortAndLongLoopsKeepTheirItemsApart) {
  ThreadPool pool(4);
  std::vector<int> visits(40, 0);
  for (int round = 0; round < 20000; ++round) {
    const int num_items = round % 2 == 0 ? 2 : 40;
    // A closure of this round alone: who runs it late reads a stack that is gone.
    const int tag = round;
    pool.ParallelFor(num_items,
                     [&](int64_t item, int) { visits[item] += tag == round ? 1 : 1000; });
  }
  for (int i = 0; i < 40; ++i) ASSERT_EQ(visits[i], i < 2 ? 20000 : 10000) << i;
}

TEST(ThreadPoolTest, EffectsOfALoopAreVisibleToTheNext) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64, 0);
  for (int round = 0; round < 200; ++round) {
    pool.ParallelFor(64, [&](int64_t item, int) { values[item] = item + round; });
    // Each item reads what another item, and most likely another thread, wrote.
    std::vector<int64_t> mirrored(64);
    pool.ParallelFor(64, [&](int64_t item, int) { mirrored[item] = values[63 - item]; });
    for (int i = 0; i < 64; ++i) ASSERT_EQ(mirrored[i], 63 - i + round);
  }
}

// A worker still waking for the last loop must notice the end, too.
TEST(ThreadPoolTest, EndsWhileWorkersAreStillWaking) {
  for (int round = 0; round < 2000; ++round) {
    ThreadPool pool(5);
    std::atomic<int> num_visits{0};
    for (int i = 0; i <= round % 7; ++i) {
      pool.ParallelFor(8, [&](int64_t, int) { ++num_visits; });
    }
    ASSERT_EQ(num_visits, 8 * (round % 7 + 1));
  }
}

TEST(ThreadPoolTest, SleepingWorkersWakeAgain) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> sum{0};
    pool.ParallelFor(100, [&](int64_t item, int) { sum += static_cast<int>(item); });
    EXPECT_EQ(sum, 4950);
  }
}

TEST(ThreadPoolTest, ThreadsHaveTheirOwnNames) {
  ThreadPool pool(4);
  // No two items run at once under one name: each name's counter is a plain int.
  std::vector<int64_t> per_thread(4, 0);
  for (int round = 0; round < 100; ++round) {
    pool.ParallelFor(50, [&](int64_t, int thread) { ++per_thread[thread]; });
  }
  EXPECT_EQ(per_thread[0] + per_thread[1] + per_thread[2] + per_thread[3], 5000);
}

}  // namespace
}  // namespace mea
