#include "engine/step_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace mea::testing {
namespace {

// 9 ms with 8 decodes, and a millisecond more for each prompt token.
constexpr StepTime kStepCost{.step = 5e-3, .prompt_token = 1e-3, .decode_token = 5e-4};
constexpr int kFewest = StepBudget::kLeastPromptTokens;

StepReport StepOf(int prompt_tokens, int decode_tokens) {
  return {.num_prefill_tokens = prompt_tokens,
          .num_decode_tokens = decode_tokens,
          .seconds = kStepCost.Seconds(1, prompt_tokens, decode_tokens)};
}

// Knows kStepCost.
StepBudget Trained(std::optional<absl::Duration> target_itl) {
  StepBudget budget(target_itl);
  for (int i = 0; i < 200; ++i) budget.Observe(StepOf(i % 2 * i, 1 + 7 * i % 64));
  return budget;
}

TEST(StepBudgetTest, PromptsFillAStepInWhichNothingDecodes) {
  for (const auto target : {std::optional<absl::Duration>(), {absl::Milliseconds(50)}}) {
    EXPECT_EQ(Trained(target).PromptTokens({.num_prompts = 3}), kUnlimitedPromptTokens);
  }
}

TEST(StepBudgetTest, PromptsGetWhatDecodesLeaveOfTheTarget) {
  const StepBudget budget = Trained(absl::Milliseconds(109));
  EXPECT_NEAR(budget.PromptTokens({.num_decodes = 8}), 100, 3);
  EXPECT_NEAR(budget.PromptTokens({.num_decodes = 28}), 90, 3);
}

TEST(StepBudgetTest, PromptsProgressEvenIfDecodesTakeAllOfTheTarget) {
  for (const int target_ms : {1, 9, 20}) {
    EXPECT_EQ(Trained(absl::Milliseconds(target_ms)).PromptTokens({.num_decodes = 8}), kFewest);
  }
}

TEST(StepBudgetTest, AnInfiniteTargetIsNone) {
  EXPECT_EQ(Trained(absl::InfiniteDuration()).PromptTokens({.num_decodes = 8}),
            kUnlimitedPromptTokens);
}

TEST(StepBudgetTest, WithoutATargetAStepTakesTwoAndAHalfTimesWhatItsDecodesTake) {
  const StepBudget budget = Trained(std::nullopt);
  for (const int decodes : {60, 100, 200}) {
    const int tokens = budget.PromptTokens({.num_decodes = decodes, .num_prompts = decodes / 2});
    const double alone = kStepCost.Seconds(1, 0, decodes);
    EXPECT_NEAR(kStepCost.Seconds(1, tokens, decodes), 2.5 * alone, 0.1 * alone);
  }
}

TEST(StepBudgetTest, WherePromptsPileUpTheyGetMore) {
  const StepBudget budget = Trained(std::nullopt);
  const int few = budget.PromptTokens({.num_decodes = 80, .num_prompts = 60});
  EXPECT_EQ(budget.PromptTokens({.num_decodes = 80, .num_prompts = 1}), few);
  EXPECT_NEAR(budget.PromptTokens({.num_decodes = 80, .num_prompts = 120}), 2 * few, 2);
  EXPECT_NEAR(budget.PromptTokens({.num_decodes = 80, .num_prompts = 600}), 10 * few, 10);
}

TEST(StepBudgetTest, WhileNothingIsKnownPromptsGetTheLeast) {
  StepBudget budget(std::nullopt);
  for (int i = 0; i < 31; ++i) {
    EXPECT_EQ(budget.PromptTokens({.num_decodes = 100, .num_prompts = 1}), kFewest);
    budget.Observe(StepOf(0, 100));
  }
  budget.Observe(StepOf(512, 0));
  EXPECT_GT(budget.PromptTokens({.num_decodes = 100, .num_prompts = 1}), kFewest);
}

// Where every step has prompts, the time of the decodes alone is seen in none, and the time of the
// prompts changes with their depth. Even so it has to become known.
TEST(StepBudgetTest, StepsThatAreAllMixedStillTellTheTimeOfDecodes) {
  constexpr StepLoad kLoad{.num_decodes = 60, .num_prompts = 15};
  const int expected = Trained(std::nullopt).PromptTokens(kLoad);
  StepBudget budget(std::nullopt);
  for (int i = 0; i < 1000; ++i) {
    const int tokens = budget.PromptTokens(kLoad);
    const double depth = 1 + 0.5 * std::sin(i / 20.0);
    StepReport report = StepOf(std::min(tokens, 512), kLoad.num_decodes);
    report.seconds += (depth - 1) * report.num_prefill_tokens * kStepCost.prompt_token;
    budget.Observe(report);
    if (i < 200 || tokens == 1) continue;
    EXPECT_GT(tokens, 0.4 * expected) << i;
    EXPECT_LT(tokens, 3 * expected) << i;
  }
}

TEST(StepBudgetTest, PromptsThatCostNothingHaveNoLimit) {
  StepBudget budget(absl::Milliseconds(50));
  for (int i = 0; i < 100; ++i) budget.Observe({.num_decode_tokens = 1, .seconds = 5e-3});
  EXPECT_EQ(budget.PromptTokens({.num_decodes = 1}), kUnlimitedPromptTokens);
  EXPECT_EQ(budget.PromptTokens({.num_decodes = 100}), kFewest) << "beyond the target without them";
}

}  // namespace
}  // namespace mea::testing
