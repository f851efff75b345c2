#include "server/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/request_ranges.h"

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
