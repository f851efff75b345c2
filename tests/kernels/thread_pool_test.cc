#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace mea {
namespace {

// `sizes[c]` threads in cluster c, of a machine that this one need not be.
ThreadPlan Clusters(const std::vector<int>& sizes) {
  ThreadPlan plan;
  for (size_t cluster = 0; cluster < sizes.size(); ++cluster) {
    for (int i = 0; i < sizes[cluster]; ++i) {
      plan.threads.push_back({.cluster = static_cast<int>(cluster), .node = 0, .cpus = {}});
    }
  }
  return plan;
}

// One cluster, two, a machine of chiplets, clusters of unequal size, clusters of one.
std::vector<ThreadPlan> Plans() {
  return {AnyThreads(1),       AnyThreads(5),
          Clusters({2, 2}),    Clusters({2, 2, 2, 2, 2, 2, 2, 2}),
          Clusters({1, 4, 2}), Clusters({1, 1, 1})};
}

TEST(ThreadPoolTest, EveryItemRunsExactlyOnce) {
  for (const ThreadPlan& plan : Plans()) {
    ThreadPool pool(plan);
    const int num_threads = plan.num_threads();
    EXPECT_EQ(pool.num_threads(), num_threads);
    EXPECT_EQ(pool.num_clusters(), plan.num_clusters());
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
  constexpr int kRounds = 6000;
  for (const ThreadPlan& plan : Plans()) {
    ThreadPool pool(plan);
    std::vector<int> visits(40, 0);
    for (int round = 0; round < kRounds; ++round) {
      const int num_items = round % 2 == 0 ? 2 : 40;
      // A closure of this round alone: who runs it late reads a stack that is gone.
      const int tag = round;
      pool.ParallelFor(num_items,
                       [&](int64_t item, int) { visits[item] += tag == round ? 1 : 1000; });
    }
    for (int i = 0; i < 40; ++i) ASSERT_EQ(visits[i], i < 2 ? kRounds : kRounds / 2) << i;
  }
}

TEST(ThreadPoolTest, EffectsOfALoopAreVisibleToTheNext) {
  for (const ThreadPlan& plan : Plans()) {
    ThreadPool pool(plan);
    std::vector<int64_t> values(64, 0);
    for (int round = 0; round < 200; ++round) {
      pool.ParallelFor(64, [&](int64_t item, int) { values[item] = item + round; });
      // Each item reads what another item, and most likely another thread, wrote.
      std::vector<int64_t> mirrored(64);
      pool.ParallelFor(64, [&](int64_t item, int) { mirrored[item] = values[63 - item]; });
      for (int i = 0; i < 64; ++i) ASSERT_EQ(mirrored[i], 63 - i + round);
    }
  }
}

// A worker still waking for the last loop must notice the end, too.
TEST(ThreadPoolTest, EndsWhileWorkersAreStillWaking) {
  const std::vector<ThreadPlan> plans = Plans();
  for (int round = 0; round < 600; ++round) {
    ThreadPool pool(plans[round % plans.size()]);
    std::atomic<int> num_visits{0};
    for (int i = 0; i <= round % 7; ++i) {
      pool.ParallelFor(8, [&](int64_t, int) { ++num_visits; });
    }
    ASSERT_EQ(num_visits, 8 * (round % 7 + 1));
  }
}

// The first thread of a cluster may pass on the last loop after the end has been announced; it goes
// then, and nobody else would wake its cluster. More threads than processors make it late.
TEST(ThreadPoolTest, EndsWhileALoopIsPassedOn) {
  for (int round = 0; round < 1000; ++round) {
    ThreadPool pool(Clusters({1, 4, 4}));
    // All workers sleep, or are about to.
    std::this_thread::sleep_for(std::chrono::microseconds(50 + 10 * (round % 20)));
    std::atomic<int> num_visits{0};
    pool.ParallelFor(2, [&](int64_t, int) { ++num_visits; });
    ASSERT_EQ(num_visits, 2);
  }
}

TEST(ThreadPoolTest, SleepingWorkersWakeAgain) {
  for (const ThreadPlan& plan : Plans()) {
    ThreadPool pool(plan);
    for (int round = 0; round < 3; ++round) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      std::atomic<int> sum{0};
      pool.ParallelFor(100, [&](int64_t item, int) { sum += static_cast<int>(item); });
      EXPECT_EQ(sum, 4950);
    }
  }
}

TEST(ThreadPoolTest, ThreadsHaveTheirOwnNames) {
  ThreadPool pool(Clusters({1, 3}));
  // No two items run at once under one name: each name's counter is a plain int.
  std::vector<int64_t> per_thread(4, 0);
  for (int round = 0; round < 100; ++round) {
    pool.ParallelFor(50, [&](int64_t, int thread) { ++per_thread[thread]; });
  }
  EXPECT_EQ(per_thread[0] + per_thread[1] + per_thread[2] + per_thread[3], 5000);
}

TEST(ThreadPoolTest, EachClusterOwnsAStretchInProportionToItsThreads) {
  ThreadPool pool(Clusters({1, 4, 3}));
  EXPECT_EQ(pool.FirstItem(0, 80), 0);
  EXPECT_EQ(pool.FirstItem(1, 80), 10);
  EXPECT_EQ(pool.FirstItem(2, 80), 50);
  EXPECT_EQ(pool.FirstItem(3, 80), 80);
  EXPECT_EQ(pool.FirstItem(1, 3), 0);
  EXPECT_EQ(pool.FirstItem(3, 3), 3);
}

// As many items as threads, none of which ends before all have begun: each thread has one.
TEST(ThreadPoolTest, ThreadsTakeTheItemsOfTheirOwnClusterFirst) {
  ThreadPool pool(Clusters({2, 2}));
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> cluster_of(4);
    std::atomic<int> num_begun{0};
    pool.ParallelFor(4, [&](int64_t item, int thread) {
      cluster_of[item] = thread / 2;
      ++num_begun;
      while (num_begun < 4) std::this_thread::yield();
    });
    for (int item = 0; item < 4; ++item) EXPECT_EQ(cluster_of[item], item / 2) << item;
  }
}

// Who has item 20 waits until the other thread has done all the rest.
TEST(ThreadPoolTest, WhoHasNothingLeftTakesTheItemsOfOthers) {
  ThreadPool pool(Clusters({1, 1}));
  std::atomic<int> num_done{0};
  pool.ParallelFor(40, [&](int64_t item, int) {
    while (item == 20 && num_done < 39) std::this_thread::yield();
    ++num_done;
  });
  EXPECT_EQ(num_done, 40);
}

TEST(ThreadPoolTest, ThreadsRunWhereThePlanSays) {
  const Topology topology = ReadTopology();
  ThreadPlan plan;
  for (const Cpu& cpu : topology.cpus) {
    plan.threads.push_back({.cluster = 0, .node = 0, .cpus = {cpu.id}});
  }
  if (plan.num_threads() < 2) GTEST_SKIP() << "one processor";
  std::thread owner([&] {
    ThreadPool pool(plan);
    std::vector<std::atomic<int>> cpu_of(plan.num_threads());
    std::atomic<int> num_begun{0};
    pool.ParallelFor(plan.num_threads(), [&](int64_t, int thread) {
      cpu_of[thread] = sched_getcpu();
      ++num_begun;
      while (num_begun < plan.num_threads()) std::this_thread::yield();
    });
    for (int i = 0; i < plan.num_threads(); ++i) EXPECT_EQ(cpu_of[i], topology.cpus[i].id);
  });
  owner.join();
}

}  // namespace
}  // namespace mea
