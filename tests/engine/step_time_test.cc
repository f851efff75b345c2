#include "engine/step_time.h"

#include <gtest/gtest.h>

#include <random>

namespace mea::testing {
namespace {

constexpr StepTime kTruth{.step = 5e-3, .prompt_token = 2e-5, .decode_token = 1e-4};

StepReport Report(int prompt_tokens, int decode_tokens, double factor = 1) {
  return {.num_prefill_tokens = prompt_tokens,
          .num_decode_tokens = decode_tokens,
          .seconds = factor * kTruth.Seconds(1, prompt_tokens, decode_tokens)};
}

TEST(StepTimeTest, NothingIsBelievedBeforeEnoughStepsWereSeen) {
  StepTimeModel model;
  for (int i = 0; i < 31; ++i) model.Observe(Report(0, 4));
  EXPECT_FALSE(model.is_known());
  model.Observe(Report(0, 4));
  EXPECT_TRUE(model.is_known());
}

TEST(StepTimeTest, MixedStepsTellTheThreeCoefficientsApart) {
  StepTimeModel model;
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    model.Observe(Report(i % 2 * static_cast<int>(random() % 512), 1 + random() % 64));
  }
  const StepTime fit = model.Fit();
  EXPECT_NEAR(fit.step, kTruth.step, 0.02 * kTruth.step);
  EXPECT_NEAR(fit.prompt_token, kTruth.prompt_token, 0.02 * kTruth.prompt_token);
  EXPECT_NEAR(fit.decode_token, kTruth.decode_token, 0.02 * kTruth.decode_token);
}

TEST(StepTimeTest, WhatStepsLeaveOpenIsLaidOnTheTokens) {
  StepTimeModel model;
  for (int i = 0; i < 100; ++i) model.Observe(Report(0, 64));
  const StepTime fit = model.Fit();
  EXPECT_NEAR(fit.Seconds(1, 0, 64), kTruth.Seconds(1, 0, 64), 1e-4);
  EXPECT_LT(fit.step, 0.01 * kTruth.step);
  EXPECT_EQ(fit.prompt_token, 0) << "no prompt was seen";
}

TEST(StepTimeTest, AStepThatWasHeldUpCountsAsFourAtMost) {
  StepTimeModel model;
  for (int i = 0; i < 200; ++i) model.Observe(Report(0, 1 + i % 8, i % 20 == 0 ? 100 : 1));
  const double seconds = model.Fit().Seconds(1, 0, 4);
  EXPECT_LT(seconds, 1.25 * kTruth.Seconds(1, 0, 4));
  EXPECT_GT(seconds, 0.9 * kTruth.Seconds(1, 0, 4));
}

TEST(StepTimeTest, UnsteadyStepsAreTakenForWhatTheyTakeTogether) {
  StepTimeModel model;
  for (int i = 0; i < 600; ++i) model.Observe(Report(0, 1 + i / 2 % 8, i % 2 == 0 ? 1 : 3));
  EXPECT_NEAR(model.Fit().Seconds(1, 0, 4), 2 * kTruth.Seconds(1, 0, 4),
              0.05 * kTruth.Seconds(1, 0, 4));
}

TEST(StepTimeTest, OldStepsAreForgotten) {
  StepTimeModel model;
  for (int i = 0; i < 200; ++i) model.Observe(Report(0, 1 + i % 8, 10));
  for (int i = 0; i < 400; ++i) model.Observe(Report(0, 1 + i % 8));
  EXPECT_NEAR(model.Fit().Seconds(1, 0, 4), kTruth.Seconds(1, 0, 4), 1e-4);
}

}  // namespace
}  // namespace mea::testing
