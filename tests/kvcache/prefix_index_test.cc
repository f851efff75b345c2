#include "kvcache/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>

namespace mea {
namespace {

constexpr int kPageSize = 4;

// Sequences as the engine uses them: match, grow, fill, index, die.
class PrefixIndexTest : public ::testing::Test {
 protected:
  struct Held {
    PageTable table;
    std::vector<int32_t> tokens;
    int found = 0;
  };

  Held Run(std::vector<int32_t> tokens, std::string_view salt = "") {
    Held held{PageTable(&pool_), std::move(tokens)};
    held.found = index_.Match(held.tokens, salt, held.table);
    const int num_tokens = static_cast<int>(held.tokens.size());
    EXPECT_TRUE(held.table.Grow((num_tokens + kPageSize - 1) / kPageSize));
    index_.Insert(held.tokens, salt, held.found / kPageSize, num_tokens / kPageSize, held.table);
    return held;
  }
  static std::vector<int32_t> Count(int n, int first = 0) {
    std::vector<int32_t> tokens(n);
    for (int i = 0; i < n; ++i) tokens[i] = first + i;
    return tokens;
  }

  const KvLayout layout_{.page_size = kPageSize};
  PagePool pool_{16};
  PrefixIndex index_{&pool_, &layout_};
};

TEST_F(PrefixIndexTest, FindsFullPagesOfALiveSequenceAndSharesThem) {
  const Held first = Run(Count(10));
  const Held second = Run(Count(12));
  EXPECT_EQ(first.found, 0);
  EXPECT_EQ(second.found, 8);
  EXPECT_EQ(second.table.pages()[0], first.table.pages()[0]);
  EXPECT_EQ(second.table.pages()[1], first.table.pages()[1]);
  EXPECT_EQ(pool_.num_used(), 4);
}

TEST_F(PrefixIndexTest, FindsThemAfterTheSequenceDied) {
  Run(Count(8));
  EXPECT_EQ(pool_.num_used(), 0);
  EXPECT_EQ(pool_.num_cached(), 2);
  EXPECT_EQ(pool_.num_free(), 14);
  EXPECT_EQ(Run(Count(9)).found, 8);
}

TEST_F(PrefixIndexTest, LeavesOneTokenToCompute) {
  Run(Count(8));
  EXPECT_EQ(Run(Count(8)).found, 4);
}

TEST_F(PrefixIndexTest, EqualTokensAfterADifferentBeginningAreNotThePage) {
  Run(Count(8));
  std::vector<int32_t> other = Count(9);
  other[1] = 99;  // the second page's tokens are the same
  EXPECT_EQ(Run(other).found, 0);
  EXPECT_EQ(Run(other).found, 8);
}

TEST_F(PrefixIndexTest, SaltsShareNothing) {
  Run(Count(9), "a");
  EXPECT_EQ(Run(Count(9), "b").found, 0);
  EXPECT_EQ(Run(Count(9)).found, 0);
  EXPECT_EQ(Run(Count(9), "a").found, 8);
}

TEST_F(PrefixIndexTest, PagesFilledTwiceAtTheSameTimeBecomeOne) {
  Held first{PageTable(&pool_), Count(9)};
  Held second{PageTable(&pool_), Count(9)};
  ASSERT_TRUE(first.table.Grow(3) && second.table.Grow(3));
  index_.Insert(first.tokens, "", 0, 2, first.table);
  index_.Insert(second.tokens, "", 0, 2, second.table);
  EXPECT_EQ(first.table.pages()[0], second.table.pages()[0]);
  EXPECT_EQ(first.table.pages()[1], second.table.pages()[1]);
  EXPECT_NE(first.table.pages()[2], second.table.pages()[2]);
  EXPECT_EQ(pool_.num_used(), 4);
}

TEST_F(PrefixIndexTest, TheEndOfThePrefixUsedLongestAgoGoesFirst) {
  Run(Count(12));       // three pages
  Run(Count(12, 100));  // three more
  Run(Count(5));        // touches the first page of the first
  Held hog{PageTable(&pool_), {}};
  ASSERT_TRUE(hog.table.Grow(16 - 5));
  EXPECT_EQ(index_.num_entries(), 5);
  EXPECT_EQ(Run(Count(13)).found, 8);  // lost its last page
  hog.table.Clear();
}

TEST_F(PrefixIndexTest, CachedPagesAreAvailableToTheLast) {
  Run(Count(16));
  Held hog{PageTable(&pool_), {}};
  EXPECT_FALSE(hog.table.Grow(17));
  EXPECT_TRUE(hog.table.Grow(16));
  EXPECT_EQ(index_.num_entries(), 0);
  EXPECT_EQ(pool_.num_cached(), 0);
}

// Against a model that knows what every page holds.
TEST_F(PrefixIndexTest, RandomUseNeverFindsAPageOfOtherContent) {
  const uint64_t seed = 11;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::map<int32_t, std::vector<int32_t>> content;  // page -> salt and every token up to its end
  std::vector<std::unique_ptr<Held>> live;
  int64_t found = 0;
  for (int step = 0; step < 20000; ++step) {
    if (!live.empty() && random() % 2 == 0) {
      std::swap(live[random() % live.size()], live.back());
      live.pop_back();
      continue;
    }
    // Few different tokens, so that prefixes meet.
    std::vector<int32_t> tokens(1 + random() % 20);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 5 == 0);
    const std::string salt(random() % 2, 's');
    Held held{PageTable(&pool_), tokens};
    held.found = index_.Match(tokens, salt, held.table);
    found += held.found;
    ASSERT_LT(held.found, static_cast<int>(tokens.size()));
    const auto holds = [&](int page) {
      std::vector<int32_t> expected = {static_cast<int32_t>(salt.size())};
      expected.insert(expected.end(), tokens.begin(), tokens.begin() + (page + 1) * kPageSize);
      return expected;
    };
    for (int i = 0; i < held.found / kPageSize; ++i) {
      ASSERT_EQ(content.at(held.table.pages()[i]), holds(i));
    }
    const int num_tokens = static_cast<int>(tokens.size());
    if (!held.table.Grow((num_tokens + kPageSize - 1) / kPageSize)) continue;
    for (int i = held.found / kPageSize; i < held.table.num_pages(); ++i) {
      content.erase(held.table.pages()[i]);
    }
    for (int i = held.found / kPageSize; i < num_tokens / kPageSize; ++i) {
      content[held.table.pages()[i]] = holds(i);
    }
    index_.Insert(tokens, salt, held.found / kPageSize, num_tokens / kPageSize, held.table);
    for (int i = 0; i < num_tokens / kPageSize; ++i) {
      ASSERT_EQ(content.at(held.table.pages()[i]), holds(i));
    }
    live.push_back(std::make_unique<Held>(std::move(held)));
    std::set<int32_t> used;
    for (const auto& h : live) used.insert(h->table.pages().begin(), h->table.pages().end());
    ASSERT_EQ(static_cast<int>(used.size()), pool_.num_used());
    ASSERT_EQ(pool_.num_free() + pool_.num_cached() + pool_.num_used(), pool_.num_pages());
    ASSERT_LE(index_.num_entries(), pool_.num_used() + pool_.num_cached());
  }
  EXPECT_GT(found, 10000);
}

// Two groups, the second with a window of six tokens.
class WindowedPrefixTest : public ::testing::Test {
 protected:
  struct Held {
    PageTable table;
    int found = 0;
  };
  static KvLayout Layout() {
    KvLayout layout{
        .layers = std::vector<KvSpec>(2), .page_size = kPageSize, .max_batch_tokens = 8};
    layout.GroupByWindow(std::vector<int>{0, 6});
    return layout;
  }
  static std::vector<int32_t> Count(int n) {
    std::vector<int32_t> tokens(n);
    for (int i = 0; i < n; ++i) tokens[i] = i;
    return tokens;
  }

  bool Reserve(PageTable& table, int computed, int num_tokens) {
    std::vector<int> ends;
    for (int group = 0; group < 2; ++group) {
      table.Skip(group, layout_.FirstPage(group, computed));
      ends.push_back(layout_.EndPage(group, computed, num_tokens));
    }
    return table.Grow(ends);
  }
  // In steps of eight tokens, as the engine does it; `ahead` is how many tokens the next step has
  // already let windows move on when a step's are told.
  Held Run(const std::vector<int32_t>& tokens, int ahead = 0) {
    Held held{PageTable(&pool_, 2)};
    held.found = index_.Match(tokens, "", held.table);
    const auto end = static_cast<int>(tokens.size());
    for (int computed = held.found; computed < end; computed += 8) {
      EXPECT_TRUE(Reserve(held.table, computed, end));
      const int next = std::min(end, computed + 8);
      if (ahead > 0) {
        EXPECT_TRUE(Reserve(held.table, std::min(end, next + ahead), end));
      }
      index_.Insert(tokens, "", computed / kPageSize, next / kPageSize, held.table);
    }
    return held;
  }

  const KvLayout layout_ = Layout();
  PagePool pool_{32};
  PrefixIndex index_{&pool_, &layout_};
};

TEST_F(WindowedPrefixTest, APrefixNeedsOnlyTheEndOfItsWindow) {
  Run(Count(33));
  const Held again = Run(Count(33));
  EXPECT_EQ(again.found, 32);
  // Of the window: tokens 25 (the window) and two before it, which lie in pages 6 and 7.
  EXPECT_EQ(again.table.num_pages(), 8 + 1 + 2 + 1);
}

TEST_F(WindowedPrefixTest, AWindowThatIsGoneShortensThePrefix) {
  Run(Count(33));
  // Takes all free pages, and of the cached ones those let go first: what windows had left.
  Held hog{PageTable(&pool_, 2)};
  const int taken = pool_.num_free() + 6;
  ASSERT_TRUE(hog.table.Grow(std::vector<int>{taken, 0}));
  EXPECT_EQ(index_.num_entries(), 8);
  PageTable shorter(&pool_, 2);
  EXPECT_EQ(index_.Match(Count(17), "", shorter), 0) << "the window of token 16 is gone";
  shorter.Clear();
  PageTable whole(&pool_, 2);
  EXPECT_EQ(index_.Match(Count(33), "", whole), 32);
}

TEST_F(WindowedPrefixTest, AForgottenEntryFreesItsOtherPages) {
  Run(Count(33));
  EXPECT_EQ(pool_.num_cached(), 16);
  Held hog{PageTable(&pool_, 2)};
  ASSERT_TRUE(hog.table.Grow(std::vector<int>{30, 0}));
  EXPECT_EQ(index_.num_entries(), 2);
  EXPECT_EQ(pool_.num_cached() + pool_.num_free(), 2);
  hog.table.Clear();
  EXPECT_EQ(pool_.num_used(), 0);
}

TEST_F(WindowedPrefixTest, StepsThatRunAheadOfWhatIsToldLoseNothingButWindows) {
  Run(Count(33), 8);
  const Held again = Run(Count(33));
  EXPECT_EQ(pool_.num_used(), again.table.num_pages());
  EXPECT_EQ(again.found, 32);
  PageTable shorter(&pool_, 2);
  EXPECT_EQ(index_.Match(Count(25), "", shorter), 0) << "its window had gone before it was told";
}

using Kind = PrefixEvent::Kind;

// What a reader of the events knows: entries by number.
struct KnownEntries {
  void Read(const std::vector<PrefixEvent>& events) {
    for (const PrefixEvent& event : events) {
      if (event.kind == Kind::kCleared) entries.clear();
      if (event.kind == Kind::kRemoved) {
        EXPECT_EQ(entries.erase(event.entry), 1u);
      }
      if (event.kind != Kind::kStored) continue;
      EXPECT_TRUE(event.before == 0 || event.before < event.entry);
      EXPECT_TRUE(entries.emplace(event.entry, event).second);
    }
  }
  std::map<int64_t, PrefixEvent> entries;
};

TEST_F(PrefixIndexTest, EventsTellWhatBecomesFindableAndWhatNoLongerIs) {
  index_.RecordEvents();
  EXPECT_EQ(index_.TakeEvents().size(), 1u);  // cleared
  Run(Count(9), "salt");
  const std::vector<PrefixEvent> stored = index_.TakeEvents();
  ASSERT_EQ(stored.size(), 2u);
  EXPECT_EQ(stored[0].before, 0);
  EXPECT_EQ(stored[0].tokens, Count(4));
  EXPECT_EQ(stored[0].salt, "salt");
  EXPECT_EQ(stored[1].before, stored[0].entry);
  EXPECT_EQ(stored[1].tokens, Count(4, 4));
  Run(Count(9), "salt");
  EXPECT_TRUE(index_.TakeEvents().empty());  // nothing new
  Run(Count(64, 100));
  KnownEntries known;
  known.Read(stored);
  known.Read(index_.TakeEvents());
  EXPECT_EQ(std::ssize(known.entries), index_.num_entries());
  EXPECT_FALSE(known.entries.contains(stored[0].entry));
}

TEST_F(PrefixIndexTest, RecordingBeginsWithWhatThereIs) {
  Run(Count(9));
  Run(Count(64, 100));
  Run(Count(9));
  index_.RecordEvents();
  const std::vector<PrefixEvent> events = index_.TakeEvents();
  EXPECT_EQ(events.front().kind, Kind::kCleared);
  KnownEntries known;
  known.Read(events);
  EXPECT_EQ(std::ssize(known.entries), index_.num_entries());
  index_.StopRecording();
  Run(Count(9, 500));
  EXPECT_TRUE(index_.TakeEvents().empty());
}

TEST_F(PrefixIndexTest, ClearedNothingIsFoundAndSequencesKeepTheirPages) {
  index_.RecordEvents();
  Held live = Run(Count(10));
  Run(Count(9, 50));
  index_.TakeEvents();
  index_.Clear();
  const std::vector<PrefixEvent> events = index_.TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, Kind::kCleared);
  EXPECT_EQ(index_.num_entries(), 0);
  EXPECT_EQ(pool_.num_cached(), 0);
  EXPECT_EQ(pool_.num_used(), 3);
  // What follows a forgotten page is not indexed; the next prompt with that beginning is.
  ASSERT_TRUE(live.table.Grow(4));
  index_.Insert(Count(16), "", 2, 4, live.table);
  EXPECT_EQ(index_.num_entries(), 0);
  EXPECT_EQ(Run(Count(10)).found, 0);
  EXPECT_EQ(Run(Count(10)).found, 8);
  live.table.Clear();
  EXPECT_EQ(pool_.num_used(), 0);
}

TEST_F(WindowedPrefixTest, ClearingFreesThePagesOfAllGroups) {
  Run(Count(33));
  index_.Clear();
  EXPECT_EQ(pool_.num_cached(), 0);
  EXPECT_EQ(pool_.num_used(), 0);
}

}  // namespace
}  // namespace mea
