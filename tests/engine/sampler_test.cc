#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "kernels/uniform.h"

namespace mea {
namespace {

using ::testing::ElementsAre;

// One row at a time through the CPU back end.
absl::StatusOr<TokenEvent> Sample(const std::vector<float>& logits, const SamplerInput& input) {
  static Backend& backend = *CreateCpuBackend({.num_threads = 1}).value().release();
  Sampler sampler(static_cast<int>(logits.size()));
  sampler.Clear();
  sampler.Add(input);
  const TensorView row = TensorView::Of(std::span(logits));
  sampler.Start(backend, row.Reshape({1, row.shape[0]}));
  EXPECT_TRUE(backend.Synchronize().ok());
  if (absl::Status s = sampler.Check(0); !s.ok()) return s;
  return sampler.Result(0);
}

int32_t SampleOne(const std::vector<float>& logits, const SamplingParams& params,
                  std::vector<int32_t> output = {}, std::vector<int32_t> prompt = {},
                  std::vector<int32_t> banned = {}) {
  return Sample(logits,
                {.params = &params, .prompt = prompt, .output = output, .banned_tokens = banned})
      ->token_id;
}

// How often each token is drawn over `n` seeds.
std::vector<int> Histogram(const std::vector<float>& logits, SamplingParams params, int n) {
  std::vector<int> counts(logits.size());
  for (int i = 0; i < n; ++i) {
    params.seed = 1000 + i;
    ++counts[Sample(logits, {.params = &params})->token_id];
  }
  return counts;
}

// Pearson's statistic against exact probabilities; tokens of probability 0 must not be drawn at
// all.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& probabilities) {
  const double n = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = n * probabilities[i];
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " has probability 0";
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return statistic;
}

std::vector<double> Softmax(const std::vector<double>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  for (const double x : logits) p.push_back(std::exp(x - max));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

const std::vector<float> kLogits = {1.0f, 3.0f, 2.5f, -1.0f, 0.0f, 2.0f, -4.0f, 1.5f};
// With 7 degrees of freedom, 29.9 is exceeded with probability 1e-4; the seeds are fixed.
constexpr double kChiSquareLimit = 29.9;
constexpr int kDraws = 20000;

TEST(SamplerTest, GreedyTakesTheLargestAndTheLowestIdAmongEquals) {
  SamplingParams greedy{.temperature = 0};
  EXPECT_EQ(SampleOne({0, 5, 3}, greedy), 1);
  EXPECT_EQ(SampleOne({0, 5, 5}, greedy), 1);
}

TEST(SamplerTest, DrawsFollowTheSoftmaxAtEveryTemperature) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> scaled;
    for (const float x : kLogits) scaled.push_back(x / temperature);
    const auto counts = Histogram(kLogits, {.temperature = temperature}, kDraws);
    EXPECT_LT(ChiSquare(counts, Softmax(scaled)), kChiSquareLimit) << temperature;
  }
}

TEST(SamplerTest, TopKKeepsTheKBest) {
  const double none = -std::numeric_limits<double>::infinity();
  const auto expected = Softmax({none, 3.0, 2.5, none, none, 2.0, none, none});
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.top_k = 3}, kDraws), expected), kChiSquareLimit);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetOfAtLeastThatProbability) {
  // Sorted probabilities: 3.0 -> 0.418, 2.5 -> 0.253, 2.0 -> 0.154, ...; 0.7 needs the third.
  const double none = -std::numeric_limits<double>::infinity();
  const auto three = Softmax({none, 3.0, 2.5, none, none, 2.0, none, none});
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.top_p = 0.7f}, kDraws), three), kChiSquareLimit);
  const auto two = Softmax({none, 3.0, 2.5, none, none, none, none, none});
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.top_p = 0.6f}, kDraws), two), kChiSquareLimit);
}

TEST(SamplerTest, TopPWorksBeyondTheFirstSortedBatch) {
  const std::vector<float> flat(1000, 0.5f);
  const SamplingParams base{.top_p = 0.5f};
  for (int i = 0; i < 2000; ++i) {
    SamplingParams params = base;
    params.seed = i;
    EXPECT_LT(Sample(flat, {.params = &params})->token_id, 500);
  }
}

TEST(SamplerTest, MinPDropsWhatIsFarBelowTheBest) {
  // exp(2.0 - 3.0) = 0.368 stays at 0.3; exp(1.5 - 3.0) = 0.223 goes.
  const double none = -std::numeric_limits<double>::infinity();
  const auto expected = Softmax({none, 3.0, 2.5, none, none, 2.0, none, none});
  EXPECT_LT(ChiSquare(Histogram(kLogits, {.min_p = 0.3f}, kDraws), expected), kChiSquareLimit);
}

TEST(SamplerTest, CombinedFiltersApplyInTheDocumentedOrder) {
  // temperature 2 -> top-k 4 {3.0, 2.5, 2.0, 1.5}/2 -> top-p 0.8 of these: three -> min-p 0.7: two.
  const double none = -std::numeric_limits<double>::infinity();
  const auto expected = Softmax({none, 1.5, 1.25, none, none, none, none, none});
  const SamplingParams params{.temperature = 2.0f, .top_k = 4, .top_p = 0.8f, .min_p = 0.7f};
  EXPECT_LT(ChiSquare(Histogram(kLogits, params, kDraws), expected), kChiSquareLimit);
}

TEST(SamplerTest, TheSameSeedAndCounterGiveTheSameTokenInAnyOrder) {
  std::map<std::pair<int, int>, int32_t> first;
  for (int round = 0; round < 2; ++round) {
    for (int step = 0; step < 200; ++step) {
      const int i = round == 0 ? step : 199 - step;
      const std::vector<int32_t> output(i % 20, 0);
      const SamplingParams params{.seed = static_cast<uint64_t>(i / 20)};
      const int32_t token = Sample(kLogits, {.params = &params, .output = output})->token_id;
      const auto [it, is_new] = first.try_emplace({i / 20, i % 20}, token);
      EXPECT_EQ(it->second, token);
      EXPECT_EQ(is_new, round == 0);
    }
  }
}

TEST(SamplerTest, TheLowestTemperatureIsGreedy) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(SampleOne(kLogits, {.temperature = 1e-30f, .seed = seed}), 1);
  }
}

TEST(SamplerTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  const SamplingParams params{.temperature = 0, .repetition_penalty = 2.0f};
  EXPECT_EQ(SampleOne({4.0f, 3.0f, -1.0f}, params, {0, 0, 0}), 1);  // 4 / 2 < 3, not 4 / 8
  EXPECT_EQ(SampleOne({4.0f, 1.9f, -1.0f}, params, {0, 0, 0}), 0);  // applied once
  EXPECT_EQ(SampleOne({4.0f, 3.0f, -1.0f}, params, {}, {0}), 1);    // the prompt counts
  EXPECT_EQ(SampleOne({-1.0f, -1.5f, -3.0f}, params, {0}), 1);      // -1 * 2 < -1.5
}

TEST(SamplerTest, PresenceIsFlatAndFrequencyGrowsWithTheOutputAlone) {
  const SamplingParams presence{.temperature = 0, .presence_penalty = 1.0f};
  EXPECT_EQ(SampleOne({2.0f, 1.5f}, presence, {0}), 1);
  EXPECT_EQ(SampleOne({2.0f, 0.9f}, presence, {0, 0, 0}), 0);
  EXPECT_EQ(SampleOne({2.0f, 1.5f}, presence, {}, {0}), 0);
  const SamplingParams frequency{.temperature = 0, .frequency_penalty = 0.4f};
  EXPECT_EQ(SampleOne({2.0f, 0.9f}, frequency, {0, 0}), 0);
  EXPECT_EQ(SampleOne({2.0f, 0.9f}, frequency, {0, 0, 0}), 1);
}

TEST(SamplerTest, PresenceCountsOnceThoughFrequencyCancelsIt) {
  const SamplingParams params{.temperature = 0, .presence_penalty = 1.0f, .frequency_penalty = -1};
  EXPECT_EQ(SampleOne({2.0f, 2.5f}, params, {0, 0}), 0);  // 2 - 1 + 2 = 3
}

TEST(SamplerTest, PenaltiesOfTokensThatAreNotAllowedDoNotLetThemIn) {
  const SamplingParams params{
      .temperature = 0, .frequency_penalty = 0.1f, .allowed_token_ids = {1, 2}};
  EXPECT_EQ(SampleOne({9.0f, 1.0f, 0.0f}, params, {0}), 1);
  EXPECT_EQ(SampleOne({9.0f, 1.0f, 0.95f}, params, {1}), 2);
}

TEST(SamplerTest, RowsOfAGroupDoNotTouchEachOther) {
  const std::vector<float> logits = {2, 1, 0, 2, 1, 0};
  const auto backend = CreateCpuBackend({.num_threads = 2}).value();
  const SamplingParams biased{.temperature = 0, .logit_bias = {{2, 5.0f}}};
  const SamplingParams plain{.temperature = 0};
  Sampler sampler(3);
  for (int round = 0; round < 2; ++round) {
    sampler.Clear();
    sampler.Add({.params = round == 0 ? &biased : &plain});
    sampler.Add({.params = round == 0 ? &plain : &biased});
    sampler.Start(*backend, TensorView::Of(std::span(logits)).Reshape({2, 3}));
    ASSERT_TRUE(backend->Synchronize().ok());
    EXPECT_EQ(sampler.Result(round).token_id, 2);
    EXPECT_EQ(sampler.Result(1 - round).token_id, 0);
  }
}

TEST(SamplerTest, BiasAndAllowedSetDecideWhatCanBeDrawn) {
  EXPECT_EQ(SampleOne({2.0f, 1.0f, 0.0f}, {.temperature = 0, .logit_bias = {{2, 5.0f}}}), 2);
  EXPECT_EQ(SampleOne({2.0f, 1.0f, 0.0f}, {.temperature = 0, .allowed_token_ids = {1, 2}}), 1);
}

TEST(SamplerTest, BannedTokensYieldOnlyToAnAllowedSetOfNothingElse) {
  EXPECT_EQ(SampleOne({2.0f, 1.0f}, {.temperature = 0}, {}, {}, {0}), 1);
  EXPECT_EQ(SampleOne({2.0f, 1.0f}, {.temperature = 0, .allowed_token_ids = {0}}, {}, {}, {0}), 0);
}

TEST(SamplerTest, LogprobsAreOfTheModelBeforeSamplingParameters) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const SamplingParams params{.temperature = 0, .logit_bias = {{2, 50.0f}}};
  const auto event = Sample(logits, {.params = &params, .num_logprobs = 2});
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->token_id, 2);
  EXPECT_NEAR(event->logprob.value(), std::log(0.2), 1e-6);
  ASSERT_EQ(event->top_logprobs.size(), 2u);
  EXPECT_EQ(event->top_logprobs[0].token_id, 0);
  EXPECT_NEAR(event->top_logprobs[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(event->top_logprobs[1].token_id, 1);
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreAnInternalError) {
  const SamplingParams params;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> logits = {0.0f, bad, 1.0f};
    EXPECT_EQ(Sample(logits, {.params = &params}).status().code(), absl::StatusCode::kInternal);
  }
}

TEST(SamplerTest, NeighbouringSeedsAndCountersAreUncorrelated) {
  double sum = 0;
  double product = 0;
  constexpr int kPairs = 20000;
  for (int i = 0; i < kPairs; ++i) {
    const double a = UniformAt(i, 0);
    const double b = UniformAt(i, 1);
    EXPECT_GE(a, 0.0);
    EXPECT_LT(a, 1.0);
    sum += a;
    product += (a - 0.5) * (b - 0.5);
  }
  EXPECT_NEAR(sum / kPairs, 0.5, 0.01);
  EXPECT_NEAR(product / kPairs, 0.0, 0.003);
}

}  // namespace
}  // namespace mea
