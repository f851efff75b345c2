#include "engine/convert/budget.h"

#include <gtest/gtest.h>

#include <limits>

#include "engine/convert/random.h"

namespace mea::convert {
namespace {

int64_t BytesOf(const std::vector<std::vector<Choice>>& items, const std::vector<int>& chosen) {
  int64_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) bytes += items[i][chosen[i]].bytes;
  return bytes;
}
double LossOf(const std::vector<std::vector<Choice>>& items, const std::vector<int>& chosen) {
  double loss = 0;
  for (size_t i = 0; i < items.size(); ++i) loss += items[i][chosen[i]].loss;
  return loss;
}

TEST(BudgetTest, NoOtherChoiceWithinTheBudgetIsBetter) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::vector<std::vector<Choice>> items(4);
    for (auto& choices : items) {
      for (int i = 0; i < 4; ++i)
        choices.push_back({16 * (1 + random.Below(12)), random.Uniform()});
    }
    const int64_t budget = 16 * 30;
    const std::vector<int> chosen = SpendBudget(items, budget).value();
    EXPECT_LE(BytesOf(items, chosen), budget);
    double best = std::numeric_limits<double>::infinity();
    for (int code = 0; code < 256; ++code) {
      const std::vector<int> other = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3};
      if (BytesOf(items, other) <= budget) best = std::min(best, LossOf(items, other));
    }
    EXPECT_NEAR(LossOf(items, chosen), best, 1e-12);
  }
}

TEST(BudgetTest, WhatCostsNothingIsKept) {
  const std::vector<std::vector<Choice>> items(3, {{64, 0.0}, {32, 0.0}});
  EXPECT_EQ(SpendBudget(items, 3 * 64).value(), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(BytesOf(items, SpendBudget(items, 128).value()), 128);
}

TEST(BudgetTest, ABudgetThatIsTooSmallIsRefused) {
  EXPECT_EQ(SpendBudget({{{64, 0.0}, {32, 1.0}}}, 31).status().message(),
            "a budget of 31 bytes per token; at least 32 are needed");
}

}  // namespace
}  // namespace mea::convert
