// A million random operations on a scheduler with few pages; after each of them all that it
// promises must hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <unordered_map>

#include "tests/engine/scheduler_harness.h"

namespace mea::testing {
namespace {

constexpr int kMaxTokens = 150;  // of a sequence, less than the pages hold
constexpr int kMaxAlive = 30;
constexpr SchedulerLimits kLimits{
    .max_num_seqs = 5, .max_batch_tokens = 24, .steps_per_priority = 40};

bool GoesBefore(const Sequence& a, const Sequence& b) {
  return std::pair(a.turn, a.arrival) < std::pair(b.turn, b.arrival);
}
bool IsRunning(const Sequence& sequence) { return sequence.pages.num_pages() > 0; }

// What the test knows of a sequence beside the sequence.
struct Life {
  int64_t begin = 0;  // the step before which it arrived
  int others = 0;  // who may ever delay it: alive at its arrival, or later but before it in order
  bool was_running = false;  // before the step at hand
  bool was_decoding = false;
};

// The layers' windows, and few pages: little more than one sequence needs.
struct Cache {
  std::vector<int> windows;
  int num_pages;
};

class RandomOperations {
 public:
  RandomOperations(uint64_t seed, bool prefix_cache, const Cache& cache)
      : random_(seed),
        harness_(cache.num_pages, kLimits, prefix_cache, cache.windows),
        seen_(cache.num_pages, 0) {}

  void RunOne() {
    const int what = Below(20);
    if (what < 3 && std::ssize(harness_.alive()) < kMaxAlive) {
      Add();
    } else if (what == 3 && !harness_.alive().empty()) {
      harness_.Remove(harness_.alive()[Below(static_cast<int>(harness_.alive().size()))]);
    } else {
      Step();
    }
    CheckPages();
  }

  int64_t num_steps() const { return num_steps_; }
  int64_t num_ended() const { return num_ended_; }
  int64_t num_preemptions() { return harness_.scheduler().num_preemptions(); }
  int64_t prefix_hits() { return harness_.kv().stats().prefix_hits; }

 private:
  int Below(int bound) { return static_cast<int>(random_() % bound); }

  // Half of the prompts begin like others.
  void Add() {
    const int length = 1 + Below(100);
    const int shared = Below(2) * Below(length + 1);
    const int family = Below(3);
    Request request{.id = "r"};
    for (int i = 0; i < length; ++i) {
      request.prompt.push_back(i < shared ? 1000 * family + i : Below(1 << 20));
    }
    request.stopping.max_tokens = 1 + Below(kMaxTokens - length);
    request.priority = Below(3);
    request.bypass_prefix_cache = Below(10) == 0;
    const int alive = static_cast<int>(harness_.alive().size());
    const int n = Below(4) == 0 ? 3 : 1;
    const std::vector<Sequence*> added = harness_.AddAll(std::move(request), n);
    for (int i = 0; i < alive; ++i) {
      const Sequence* other = harness_.alive()[i];
      if (GoesBefore(*added[0], *other)) lives_[other].others += n;
    }
    for (const Sequence* sequence : added) {
      lives_[sequence] = {.begin = num_steps_, .others = alive + n};
    }
  }

  void Step() {
    for (const Sequence* sequence : harness_.alive()) {
      lives_[sequence].was_running = IsRunning(*sequence);
      lives_[sequence].was_decoding = sequence->is_decoding();
    }
    const int prompt_budget = Below(2) == 0 ? kUnlimitedPromptTokens : 1 + Below(20);
    const Schedule schedule = harness_.scheduler().Next(prompt_budget);
    ++num_steps_;
    CheckBudgets(schedule, prompt_budget);
    CheckProgress(schedule);
    CheckOrder();
    CheckWaits();
    const int64_t alive = std::ssize(harness_.alive());
    harness_.Run(schedule);
    num_ended_ += alive - std::ssize(harness_.alive());
  }

  void CheckBudgets(const Schedule& schedule, int prompt_budget) {
    ASSERT_EQ(schedule.empty(), harness_.alive().empty());
    ASSERT_LE(std::ssize(schedule), kLimits.max_num_seqs);
    int tokens = 0;
    int prompt_tokens = 0;
    for (const ScheduledChunk& chunk : schedule) {
      ASSERT_GT(chunk.num_tokens, 0);
      ASSERT_EQ(chunk.end(), chunk.sequence->num_computed);
      ASSERT_LE(chunk.end(), chunk.sequence->num_tokens());
      CheckRoom(chunk);
      tokens += chunk.num_tokens;
      if (!chunk.is_decode) prompt_tokens += chunk.num_tokens;
    }
    ASSERT_LE(tokens, kLimits.max_batch_tokens);
    ASSERT_LE(prompt_tokens, prompt_budget);
  }

  // What the step writes and what it may read has a page.
  void CheckRoom(const ScheduledChunk& chunk) {
    const KvLayout& layout = harness_.kv().layout();
    const PageTable& table = chunk.sequence->pages;
    for (int group = 0; group < layout.num_groups(); ++group) {
      const std::span<const int32_t> pages = table.pages(group);
      ASSERT_LE(chunk.end(), std::ssize(pages) * SchedulerHarness::kPageSize);
      const int window = layout.group_windows[group];
      const int first = window == 0 ? 0 : std::max(0, chunk.begin - window);
      for (size_t i = first / SchedulerHarness::kPageSize; i < pages.size(); ++i) {
        ASSERT_NE(pages[i], PageTable::kNone) << group << " " << i;
      }
    }
    ASSERT_LE(table.num_pages(), layout.PagesFor(chunk.sequence->num_tokens()));
  }

  // Every decoding sequence that kept its pages draws, whatever prompts there are; and of the
  // prompts that run the first gains a token.
  void CheckProgress(const Schedule& schedule) {
    const Sequence* first_prompt = nullptr;
    const auto chunk_of = [&](const Sequence* sequence) {
      return std::find_if(schedule.begin(), schedule.end(),
                          [&](const auto& chunk) { return chunk.sequence == sequence; });
    };
    for (const Sequence* sequence : harness_.alive()) {
      if (!IsRunning(*sequence)) continue;
      if (lives_[sequence].was_decoding) {
        const auto chunk = chunk_of(sequence);
        ASSERT_TRUE(chunk != schedule.end() && chunk->is_decode);
        continue;
      }
      if (first_prompt == nullptr || GoesBefore(*sequence, *first_prompt)) first_prompt = sequence;
    }
    ASSERT_TRUE(first_prompt == nullptr || chunk_of(first_prompt) != schedule.end());
  }

  // Nobody is admitted past one that waits; who gave way comes after all that did not.
  void CheckOrder() {
    for (const Sequence* a : harness_.alive()) {
      const bool ran = lives_[a].was_running;
      if (ran == IsRunning(*a)) continue;
      for (const Sequence* b : harness_.alive()) {
        if (ran && lives_[b].was_running && IsRunning(*b)) {
          ASSERT_TRUE(GoesBefore(*b, *a));
        } else if (!ran && !IsRunning(*b) && b->waits_for == nullptr) {
          ASSERT_TRUE(GoesBefore(*a, *b));
        }
      }
    }
  }

  // In every step the first of those that run, one of `others` or the sequence itself, gains a
  // token. It loses what it gained at most once for every other that comes before it.
  void CheckWaits() {
    for (const Sequence* sequence : harness_.alive()) {
      const Life& life = lives_[sequence];
      ASSERT_LE(num_steps_ - life.begin, int64_t{2} * kMaxTokens * (life.others + 1));
    }
  }

  void CheckPages() {
    const KvCacheStats kv = harness_.kv().stats();
    ++stamp_;
    int held = 0;
    int running = 0, waiting = 0;
    int64_t waiting_tokens = 0;
    for (const Sequence* sequence : harness_.alive()) {
      for (int group = 0; group < sequence->pages.num_groups(); ++group) {
        for (const int32_t page : sequence->pages.pages(group)) {
          if (page != PageTable::kNone && std::exchange(seen_[page], stamp_) != stamp_) ++held;
        }
      }
      if (IsRunning(*sequence)) {
        ++running;
      } else if (sequence->waits_for == nullptr) {
        ++waiting;
        waiting_tokens += sequence->prompt_length();
      }
    }
    ASSERT_EQ(kv.used_pages, held);
    ASSERT_EQ(kv.free_pages + kv.cached_pages + kv.used_pages, kv.num_pages);
    const Scheduler& scheduler = harness_.scheduler();
    ASSERT_LE(running, kLimits.max_num_seqs);
    ASSERT_EQ(scheduler.num_running(), running);
    ASSERT_EQ(scheduler.num_waiting(), waiting);
    ASSERT_EQ(scheduler.num_waiting_tokens(), waiting_tokens);
  }

  std::mt19937_64 random_;
  SchedulerHarness harness_;
  std::unordered_map<const Sequence*, Life> lives_;  // of the dead too, until their address is new
  std::vector<int64_t> seen_;                        // [num_pages]
  int64_t stamp_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_ended_ = 0;
};

// Another seed: MEA_SEED=... scheduler_property_test.
TEST(SchedulerPropertyTest, AMillionRandomOperationsKeepEveryInvariant) {
  const char* chosen = std::getenv("MEA_SEED");
  const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 20261121;
  const Cache plain{.windows = {0}, .num_pages = 12};
  const Cache mixed{.windows = {20, 0, 20}, .num_pages = 22};
  const Cache windowed{.windows = {20, 20}, .num_pages = 8};
  for (const Cache& cache : {plain, mixed, windowed}) {
    for (const bool prefix_cache : {false, true}) {
      SCOPED_TRACE(::testing::Message()
                   << cache.num_pages << " pages, prefix cache " << prefix_cache);
      RandomOperations operations(seed, prefix_cache, cache);
      for (int i = 0; i < 200'000; ++i) {
        operations.RunOne();
        ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", operation " << i;
      }
      EXPECT_GT(operations.num_ended(), 2'000);
      EXPECT_GT(operations.num_preemptions(), 500);
      EXPECT_EQ(operations.prefix_hits() > 2'000, prefix_cache);
    }
  }
}

}  // namespace
}  // namespace mea::testing
