#include "engine/sequence_list.h"

#include <gtest/gtest.h>

#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

constexpr int kVocabOfList = 61;

absl::Time AtMs(int ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

TEST(SequenceListTest, ListsAreMadeOnlyWhileSomebodyAsksAndNotAfterEachStep) {
  SequenceList list;
  EXPECT_FALSE(list.IsWanted(false, AtMs(0)));
  EXPECT_TRUE(list.Ask(AtMs(0)).empty());
  EXPECT_TRUE(list.IsWanted(false, AtMs(1)));
  list.Publish({{.request_id = "a"}}, AtMs(1));
  EXPECT_FALSE(list.IsWanted(false, AtMs(50)));
  EXPECT_TRUE(list.IsWanted(false, AtMs(101)));
  EXPECT_EQ(list.Ask(AtMs(1000)).size(), 1u);
  EXPECT_FALSE(list.IsWanted(false, AtMs(7000)));
}

TEST(SequenceListTest, AListThatNobodyKeptIsNotShown) {
  SequenceList list;
  list.Ask(AtMs(0));
  list.Publish({{.request_id = "a"}}, AtMs(1));
  EXPECT_TRUE(list.Ask(AtMs(8000)).empty());
}

TEST(SequenceListTest, AnIdleEngineEmptiesItAtOnceAndOnce) {
  SequenceList list;
  list.Ask(AtMs(0));
  list.Publish({{.request_id = "a"}}, AtMs(1));
  EXPECT_TRUE(list.IsWanted(true, AtMs(2)));
  list.Publish({}, AtMs(2));
  EXPECT_FALSE(list.IsWanted(true, AtMs(900)));
}

TEST(SequenceListTest, TellsWhoRunsWhoWaitsAndWhatEachHolds) {
  const RandomModelSpec spec{.max_position = 4096};
  EngineHarness harness(spec, {.max_num_seqs = 2});
  for (int i = 0; i < 3; ++i) harness.Add(RandomRequest(i, 20, 50, kVocabOfList));
  harness.Step();
  const std::vector<SequenceInfo> list = harness.core().ListSequences();
  ASSERT_EQ(list.size(), 3u);
  const int64_t page = harness.kv().layout().PageBytes();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(list[i].request_id, absl::StrCat("request-", i));
    EXPECT_TRUE(list[i].is_running);
    EXPECT_EQ(list[i].prompt_tokens, 20);
    EXPECT_EQ(list[i].output_tokens, 1);
    EXPECT_EQ(list[i].kv_bytes, 2 * page);
    EXPECT_EQ(list[i].kv_bytes_uncompressed, 2 * harness.kv().layout().UncompressedPageBytes());
  }
  EXPECT_FALSE(list[2].is_running);
  EXPECT_EQ(list[2].kv_bytes, 0);
}

TEST(SequenceListTest, IsBounded) {
  const RandomModelSpec spec{.max_position = 4096};
  EngineHarness harness(spec, {});
  for (int i = 0; i < kMaxListedSequences + 5; ++i) {
    harness.Add(RandomRequest(i, 20, 50, kVocabOfList));
  }
  EXPECT_EQ(harness.core().ListSequences().size(), static_cast<size_t>(kMaxListedSequences));
}

}  // namespace
}  // namespace mea::testing
