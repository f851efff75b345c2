#include "server/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "server/request_ranges.h"
#include "server/text_worker.h"

namespace mea {
namespace {

using ::testing::ElementsAre;

DeltaOutput Text(const std::string& text) {
  return {.text = text, .token_ids = {1}, .logprobs = {}};
}

TEST(MailboxTest, DeltasThatWaitBecomeOne) {
  Mailbox mailbox(1000);
  mailbox.Put(PromptOutput{.num_tokens = 3});
  ASSERT_TRUE(mailbox.Put(Text("a")));
  ASSERT_TRUE(mailbox.Put(Text("b")));
  EXPECT_EQ(std::get<PromptOutput>(*mailbox.Take()).num_tokens, 3);
  const DeltaOutput delta = std::get<DeltaOutput>(*mailbox.Take());
  EXPECT_EQ(delta.text, "ab");
  EXPECT_THAT(delta.token_ids, ElementsAre(1, 1));
  EXPECT_FALSE(mailbox.Take().has_value());
}

TEST(MailboxTest, DeltasOfEachCompletionBecomeOne) {
  Mailbox mailbox(1000);
  for (const char* text : {"a", "b"}) {
    ASSERT_TRUE(mailbox.Put(DeltaOutput{.index = 0, .text = text}));
    ASSERT_TRUE(mailbox.Put(DeltaOutput{.index = 1, .text = text}));
  }
  mailbox.Put(FinishOutput{.index = 1, .is_last = false});
  EXPECT_FALSE(mailbox.finished());
  EXPECT_EQ(std::get<DeltaOutput>(*mailbox.Take()).text, "ab");
  const auto second = std::get<DeltaOutput>(*mailbox.Take());
  EXPECT_EQ(second.index, 1);
  EXPECT_EQ(second.text, "ab");
  EXPECT_EQ(std::get<FinishOutput>(*mailbox.Take()).index, 1);
  EXPECT_FALSE(mailbox.Take().has_value());
  mailbox.Put(FinishOutput{.index = 0});
  EXPECT_TRUE(mailbox.finished());
}

TEST(MailboxTest, BoundIsOnWhatWaitsNotOnWhatWasTaken) {
  Mailbox mailbox(15);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(mailbox.Put(Text("0123456789")));  // 10 bytes and a token id
    ASSERT_TRUE(mailbox.Take().has_value());
  }
  EXPECT_TRUE(mailbox.Put(Text("0123456789")));
  EXPECT_FALSE(mailbox.Put(Text("0123456789")));
}

TEST(MailboxTest, EndComesAfterTheLastDelta) {
  Mailbox mailbox(1000);
  ASSERT_TRUE(mailbox.Put(Text("a")));
  EXPECT_FALSE(mailbox.finished());
  mailbox.Put(FinishOutput{.seed = 9});
  EXPECT_TRUE(mailbox.finished());
  EXPECT_EQ(std::get<DeltaOutput>(*mailbox.Take()).text, "a");
  EXPECT_EQ(std::get<FinishOutput>(*mailbox.Take()).seed, 9u);
}

TEST(MailboxTest, FailureDropsWhatIsUnread) {
  Mailbox mailbox(1000);
  ASSERT_TRUE(mailbox.Put(Text("a")));
  mailbox.Put(FinishOutput{.status = absl::CancelledError("gone")});
  EXPECT_TRUE(absl::IsCancelled(std::get<FinishOutput>(*mailbox.Take()).status));
  EXPECT_FALSE(mailbox.Take().has_value());
}

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

TEST(RequestRangesTest, EveryRangeHasItsOwnField) {
  std::vector<std::string_view> fields;
  for (const FieldRange& range : AllRanges(100, 200, 8)) {
    EXPECT_LT(range.min, range.max) << range.field;
    EXPECT_THAT(fields, ::testing::Not(::testing::Contains(range.field)));
    fields.push_back(range.field);
  }
}

}  // namespace
}  // namespace mea
