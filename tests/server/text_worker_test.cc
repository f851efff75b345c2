// Whose text is worked on, and how much of it may wait.
#include "server/text_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "engine/refusal.h"
#include "server/limits.h"
#include "server/text_budget.h"

namespace mea {
namespace {

using ::testing::ElementsAre;

TEST(TextWorkersTest, InputLeavesTheKeptThreadsToOutput) {
  absl::Notification release, output_done;
  int num_ran = 0;
  {
    TextWorkers workers(2, 8, /*num_kept=*/1);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(workers.Post([&] {
        release.WaitForNotification();
        ++num_ran;  // one at a time
      }));
    }
    workers.PostOutput([&] { output_done.Notify(); });
    EXPECT_TRUE(output_done.WaitForNotificationWithTimeout(absl::Seconds(10)));
    release.Notify();
  }
  EXPECT_EQ(num_ran, 3);  // the end runs what was posted
}

TEST(TextWorkersTest, OutputGoesFirstAndJobsBeyondTheBoundAreRefused) {
  absl::Mutex mu;
  std::vector<int> order;
  const auto note = [&](int n) {
    absl::MutexLock lock(&mu);
    order.push_back(n);
  };
  absl::Notification started, go;
  {
    TextWorkers workers(1, 1);
    ASSERT_TRUE(workers.Post([&] {
      started.Notify();
      go.WaitForNotification();
    }));
    started.WaitForNotification();
    EXPECT_TRUE(workers.Post([&] { note(1); }));
    EXPECT_FALSE(workers.Post([&] { note(2); }));
    workers.PostOutput([&] { note(3); });
    go.Notify();
  }  // finishes what was posted
  EXPECT_THAT(order, ElementsAre(3, 1));
}

TEST(TextWorkersTest, SmallTextsPassByLargeOnes) {
  absl::Notification release, large_started;
  absl::Mutex mu;
  std::vector<std::string> order;
  const auto note = [&](const char* name) {
    absl::MutexLock lock(&mu);
    order.push_back(name);
  };
  {
    TextWorkers workers(2, 8);
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(workers.Post(
          [&] {
            if (!large_started.HasBeenNotified()) large_started.Notify();
            release.WaitForNotification();
            note("large");
          },
          kLargeTextBytes + 1));
    }
    large_started.WaitForNotification();
    absl::Notification small_done;
    ASSERT_TRUE(workers.Post(
        [&] {
          note("small");
          small_done.Notify();
        },
        kLargeTextBytes));
    EXPECT_TRUE(small_done.WaitForNotificationWithTimeout(absl::Seconds(10)));
    release.Notify();
  }
  EXPECT_THAT(order, ElementsAre("small", "large", "large"));
}

TEST(TextBudgetTest, LargeTextsLeaveRoomForSmallOnes) {
  TextBudget budget;
  std::vector<TextLease> leases;
  for (;;) {
    auto lease = budget.Take(kMaxRequestBytes);
    if (!lease.ok()) {
      EXPECT_EQ(RefusalReason(lease.status()), "TEXT_BUDGET_FULL");
      EXPECT_EQ(RetryDelay(lease.status()), kRetryDelay);
      break;
    }
    leases.push_back(*std::move(lease));
  }
  EXPECT_EQ(budget.taken(), kMaxLargeTextsBytes);
  while (budget.taken() + kLargeTextBytes <= kMaxTextBytes) {
    auto lease = budget.Take(kLargeTextBytes);
    ASSERT_TRUE(lease.ok());
    leases.push_back(*std::move(lease));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(budget.Take(1).status()));
  leases.pop_back();
  EXPECT_TRUE(budget.Take(1).ok());
  leases.clear();
  EXPECT_EQ(budget.taken(), 0);
  EXPECT_TRUE(budget.Take(kMaxRequestBytes).ok());
}

}  // namespace
}  // namespace mea
