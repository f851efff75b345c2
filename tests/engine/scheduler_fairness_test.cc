// Long and short prompts beside one another.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/engine/scheduler_harness.h"

namespace mea::testing {
namespace {

constexpr SchedulerLimits kLimits{.max_num_seqs = 64, .max_batch_tokens = 512};
constexpr int kLong = 10'000;
constexpr int kShort = 100;

// Runs steps, and knows in which of them each prompt began and was computed.
class PromptSteps {
 public:
  explicit PromptSteps(SchedulerLimits limits = kLimits, bool prefix_cache = false)
      : harness_(2500, limits, prefix_cache) {}

  Sequence* Add(int length, int priority = 0) {
    Request request{.id = "r", .prompt = std::vector<int32_t>(length, next_token_++)};
    request.stopping.max_tokens = 1;
    request.priority = priority;
    return Add(std::move(request));
  }
  Sequence* Add(Request request) { return harness_.Add(std::move(request)); }

  void Step(int prompt_budget = kUnlimitedPromptTokens) {
    const Schedule schedule = harness_.scheduler().Next(prompt_budget);
    ++num_steps_;
    for (const ScheduledChunk& chunk : schedule) {
      begun_.try_emplace(chunk.sequence, num_steps_);
      computed_[chunk.sequence] += chunk.num_tokens;
      if (chunk.draws) ended_[chunk.sequence] = num_steps_;
    }
    harness_.Run(schedule);
  }
  void StepUntilEnded(const Sequence* sequence) {
    for (int i = 0; i < 10'000 && !ended_.contains(sequence); ++i) Step();
    ASSERT_TRUE(ended_.contains(sequence));
  }
  int num_steps() const { return num_steps_; }
  int begun(const Sequence* s) const { return begun_.contains(s) ? begun_.at(s) : 1 << 20; }
  int ended(const Sequence* s) const { return ended_.contains(s) ? ended_.at(s) : 1 << 20; }
  int computed(const Sequence* s) { return computed_[s]; }

 private:
  SchedulerHarness harness_;
  int32_t next_token_ = 1;
  int num_steps_ = 0;
  std::map<const Sequence*, int> begun_, ended_, computed_;
};

TEST(SchedulerFairnessTest, ShortPromptsDoNotWaitForALongOne) {
  PromptSteps prompts;
  const Sequence* long_one = prompts.Add(kLong);
  prompts.Step();
  std::vector<const Sequence*> short_ones;
  for (int i = 0; i < 20; ++i) short_ones.push_back(prompts.Add(kShort));
  // Three quarters of each step: 2000 tokens in steps of 384.
  for (int i = 0; i < 6; ++i) prompts.Step();
  for (const Sequence* short_one : short_ones) EXPECT_LE(prompts.ended(short_one), 7);
  prompts.StepUntilEnded(long_one);
  EXPECT_EQ(prompts.num_steps(), (kLong + 20 * kShort + 511) / 512) << "no step had room left";
}

TEST(SchedulerFairnessTest, ALongPromptTakesAtMostFourTimesAsLongHoweverManyShortOnesCome) {
  PromptSteps prompts;
  const Sequence* long_one = prompts.Add(kLong);
  while (prompts.ended(long_one) > prompts.num_steps()) {
    for (int i = 0; i < 10; ++i) prompts.Add(kShort);
    prompts.Step();
    ASSERT_LE(prompts.num_steps(), 4 * (kLong + 511) / 512);
  }
}

TEST(SchedulerFairnessTest, AShortPromptBehindTwoLongOnesBeginsBesideTheFirst) {
  PromptSteps prompts;
  const Sequence* first = prompts.Add(kLong);
  prompts.Step();
  const Sequence* second = prompts.Add(kLong);
  const Sequence* short_one = prompts.Add(kShort);
  prompts.Step();
  EXPECT_EQ(prompts.ended(short_one), 2);
  EXPECT_EQ(prompts.computed(second), 0);
  prompts.StepUntilEnded(second);
  EXPECT_LT(prompts.ended(first), prompts.ended(second));
}

TEST(SchedulerFairnessTest, EqualPromptsAreComputedOneAfterTheOther) {
  PromptSteps prompts;
  std::vector<const Sequence*> equals;
  for (int i = 0; i < 4; ++i) equals.push_back(prompts.Add(1024));
  for (int i = 0; i < 8; ++i) prompts.Step();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(prompts.ended(equals[i]), 2 * (i + 1));
}

TEST(SchedulerFairnessTest, APromptWaitsForItsBeginningToBeComputedByAnother) {
  PromptSteps prompts(kLimits, true);
  std::vector<const Sequence*> same;
  for (int i = 0; i < 4; ++i) {
    Request request{.id = "r", .prompt = std::vector<int32_t>(2000, 7)};
    request.stopping.max_tokens = 1;
    same.push_back(prompts.Add(std::move(request)));
  }
  for (int i = 0; i < 8; ++i) prompts.Step();
  EXPECT_EQ(prompts.computed(same[0]), 2000);
  for (int i = 1; i < 4; ++i) EXPECT_LT(prompts.computed(same[i]), 500) << i;
}

TEST(SchedulerFairnessTest, AHigherPriorityArrivingLaterIsNotHeldUpByALongPrompt) {
  PromptSteps prompts;
  prompts.Add(kLong);
  prompts.Step();
  const Sequence* urgent = prompts.Add(2 * kLong, 1);
  prompts.Step();
  EXPECT_EQ(prompts.computed(urgent), 512);
}

}  // namespace
}  // namespace mea::testing
