#include "engine/convert/budget.h"

#include <gtest/gtest.h>

#include <limits>

#include "engine/convert/head_plan.h"
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

// Keys of layer 0 cost 0.05 with two heads fewer, or 0.01 with one; values of layer 0 cost 0.035
// with one. If errors add up in one direction, 0.01 and 0.035 are worse together than 0.05.
TEST(HeadPlanTest, TheExponentSaysHowErrorsOfLayersMeet) {
  const ModelConfig config{.hidden_size = 32,
                           .num_layers = 2,
                           .q_heads = 4,
                           .kv_heads = 4,
                           .head_dim = 8,
                           .layer_heads = {{4, 4}, {4, 4}}};
  const ConvertOptions options{.ratio = 14.0 / 16};
  const HeadPlan heads(config, options);
  std::vector<ProfileEntry> profile;
  for (int layer = 0; layer < 2; ++layer) {
    for (const bool of_keys : {true, false}) {
      for (const int kept : {1, 2, 3}) profile.push_back({layer, of_keys, kept, 1.0, 1.0});
    }
  }
  profile[1].kl = 0.05;
  profile[2].kl = 0.01;
  profile[5].kl = 0.035;
  const LayerPlan apart = heads.WithinBudget(profile, 1).value();
  EXPECT_EQ(apart[0], heads.Of(3, 3));
  const LayerPlan together = heads.WithinBudget(profile, 0.5).value();
  EXPECT_EQ(together[0], heads.Of(2, 4));
}

}  // namespace
}  // namespace mea::convert
