#include "engine/prompt_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int> Divide(int budget, std::vector<int> lengths) {
  std::vector<PromptLeft> prompts;
  for (const int length : lengths) prompts.push_back({.num_tokens = length});
  return DividePromptBudget(budget, prompts);
}

TEST(PromptSharesTest, ALongPromptKeepsAQuarterBesideShorterOnes) {
  EXPECT_THAT(Divide(100, {10000, 60, 60}), ElementsAre(25, 60, 15));
  EXPECT_THAT(Divide(100, {10000, 30, 10}), ElementsAre(60, 30, 10)) << "and what they leave";
}

TEST(PromptSharesTest, TheShortestGoesFirstAndEqualsInTheirOrder) {
  EXPECT_THAT(Divide(100, {80, 80, 80}), ElementsAre(80, 20, 0));
  EXPECT_THAT(Divide(100, {10000, 9000, 70}), ElementsAre(25, 5, 70));
  EXPECT_THAT(Divide(100, {10000, 200, 300, 40}), ElementsAre(25, 35, 0, 40));
}

TEST(PromptSharesTest, TheFirstIsNeverWithoutAShare) {
  EXPECT_THAT(Divide(1, {500, 1, 1}), ElementsAre(1, 0, 0));
  EXPECT_THAT(Divide(3, {500, 2, 1}), ElementsAre(1, 1, 1));
}

TEST(PromptSharesTest, AHigherPriorityGoesBeforeAShorterPrompt) {
  const PromptLeft prompts[] = {{0, 900}, {0, 10}, {1, 70}};
  EXPECT_THAT(DividePromptBudget(100, prompts), ElementsAre(25, 5, 70));
}

TEST(PromptSharesTest, NobodyGetsMoreThanIsLeft) {
  EXPECT_THAT(Divide(100, {3, 4}), ElementsAre(3, 4));
  EXPECT_THAT(Divide(100, {}), IsEmpty());
  EXPECT_THAT(Divide(0, {5}), ElementsAre(0));
}

TEST(PromptSharesTest, WhetherAPromptGetsAShareIsWhatTheDivisionSays) {
  std::mt19937 random(1);
  const auto below = [&](int bound) { return static_cast<int>(random() % bound); };
  int num_without = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<PromptLeft> prompts(1 + below(8));
    for (PromptLeft& prompt : prompts) {
      prompt = {.priority = below(2), .num_tokens = 1 + below(30)};
    }
    const int budget = 1 + below(100);
    const std::vector<int> shares = DividePromptBudget(budget, prompts);
    for (size_t i = 0; i < prompts.size(); ++i) {
      ASSERT_EQ(GetsShare(budget, prompts, i), shares[i] > 0) << round << " " << i;
      num_without += shares[i] == 0;
    }
  }
  EXPECT_GT(num_without, 100);
}

}  // namespace
}  // namespace mea::testing
