// The arithmetic of a draw, and the host's sampler against the definition in plain loops.
#include "kernels/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/host_sample.h"

namespace mea {
namespace {

TEST(DrawTest, WeightsAreExponentialsOfDistances) {
  std::mt19937_64 random(1);
  EXPECT_EQ(Weight(0), kBestWeight);
  EXPECT_EQ(Weight(kNoCandidate - 1), 0u);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t distance = static_cast<uint32_t>(random() >> 32);
    const double exact =
        std::exp(-static_cast<double>(distance) * 0x1p-27) * static_cast<double>(kBestWeight);
    ASSERT_NEAR(static_cast<double>(Weight(distance)), exact, 1e-7 * exact + 1) << distance;
  }
}

TEST(DrawTest, WeightsNeverRiseWithTheDistance) {
  for (int octave = 0; octave <= 46; ++octave) {
    // Around whole octaves, where the fraction starts afresh.
    const int64_t middle = std::llround(octave * std::log(2.0) * 0x1p27);
    for (int64_t d = std::max<int64_t>(1, middle - 3000); d < middle + 3000; ++d) {
      if (d >= kNoCandidate) break;
      ASSERT_LE(Weight(static_cast<uint32_t>(d)), Weight(static_cast<uint32_t>(d - 1))) << d;
    }
  }
}

TEST(DrawTest, DistancesGrowWithTheLogitsAndEndAt32) {
  const float scale = DistanceScale(0.5f);
  EXPECT_EQ(Distance(3.0f, 3.0f, scale), 0u);
  EXPECT_EQ(Distance(3.0f, 2.0f, scale), 2u << 27);
  EXPECT_EQ(Distance(3.0f, 3.0f - 16.0f, scale), kNoCandidate);
  EXPECT_NE(Distance(3.0f, 3.0f - 15.999f, scale), kNoCandidate);
  EXPECT_EQ(Distance(3.0f, kImpossible, scale), kNoCandidate);
  EXPECT_EQ(Distance(3.0f, 3.0f, DistanceScale(1e-45f)), 0u);
  EXPECT_EQ(Distance(3.0f, std::nextafter(3.0f, 0.0f), DistanceScale(1e-45f)), kNoCandidate);
}

TEST(DrawTest, MultiplyHighIsTheUpperHalfOfTheProduct) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t a = i % 3 == 0 ? ~uint64_t{0} : random();
    const uint64_t b = i % 5 == 0 ? ~uint64_t{0} : random();
    const auto product = static_cast<unsigned __int128>(a) * b;
    ASSERT_EQ(MultiplyHigh(a, b), static_cast<uint64_t>(product >> 64)) << a << " " << b;
  }
}

TEST(DrawTest, SharesOfWeightAreRoundedUp) {
  EXPECT_EQ(TopPWeight(0.5f, 10), 5u);
  EXPECT_EQ(TopPWeight(0.5f, 11), 6u);
  EXPECT_EQ(TopPWeight(1e-20f, 11), 1u);
  EXPECT_EQ(MinPWeight(0.0f), 0u);
  EXPECT_EQ(MinPWeight(1.0f), kBestWeight);
  EXPECT_EQ(MinPWeight(0x1.8p-44f), 2u);
}

// The definition, step by step.
int32_t PlainDraw(const std::vector<float>& logits, const SampleRow& row) {
  struct Token {
    uint32_t distance;
    int32_t id;
  };
  const float best = *std::max_element(logits.begin(), logits.end());
  std::vector<Token> tokens;
  for (size_t id = 0; id < logits.size(); ++id) {
    const uint32_t distance = Distance(best, logits[id], DistanceScale(row.temperature));
    if (distance != kNoCandidate) tokens.push_back({distance, static_cast<int32_t>(id)});
  }
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const Token& a, const Token& b) { return a.distance < b.distance; });
  const auto total = [&tokens] {
    uint64_t sum = 0;
    for (const Token& t : tokens) sum += Weight(t.distance);
    return sum;
  };
  if (row.top_k > 0 && tokens.size() > static_cast<size_t>(row.top_k)) tokens.resize(row.top_k);
  if (row.top_p < 1) {
    const uint64_t wanted = TopPWeight(row.top_p, total());
    uint64_t sum = 0;
    size_t kept = 0;
    while (sum < wanted) sum += Weight(tokens[kept++].distance);
    tokens.resize(kept);
  }
  std::vector<uint64_t> weight_of(logits.size());
  for (const Token& t : tokens) {
    const uint64_t weight = Weight(t.distance);
    if (weight >= MinPWeight(row.min_p)) weight_of[t.id] = weight;
  }
  uint64_t sum = 0;
  for (const uint64_t weight : weight_of) sum += weight;
  uint64_t left = DrawnPoint(row, sum);
  for (size_t id = 0;; ++id) {
    if (left < weight_of[id]) return static_cast<int32_t>(id);
    left -= weight_of[id];
  }
}

TEST(DrawTest, TheHostDrawsByTheDefinition) {
  std::mt19937_64 random(3);
  HostSampler sampler;
  for (int i = 0; i < 3000; ++i) {
    std::vector<float> logits(1 + random() % 700);
    // Coarse numbers: many are equal.
    for (float& logit : logits) logit = static_cast<float>(random() % 40) * 0.25f;
    const SampleRow row = {.temperature = 0.25f * static_cast<float>(1 + random() % 8),
                           .top_k = static_cast<int32_t>(random() % 2 * (random() % 100)),
                           .top_p = random() % 2 ? 1.0f : 0.01f * static_cast<float>(1 + i % 99),
                           .min_p = random() % 2 ? 0.0f : 0.01f * static_cast<float>(i % 100),
                           .seed = random(),
                           .counter = random() % 1000};
    ASSERT_EQ(sampler.Sample(logits, row, {}, {}).token_id, PlainDraw(logits, row)) << "case " << i;
  }
}

TEST(DrawTest, AMaskIsABanOfAllItLeavesOut) {
  std::mt19937_64 random(5);
  HostSampler sampler;
  for (int i = 0; i < 500; ++i) {
    const int vocab = 1 + static_cast<int>(random() % 300);
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = static_cast<float>(random() % 40) * 0.25f;
    SampleRow masked = {.temperature = i % 4 == 0 ? 0.0f : 0.8f,
                        .top_k = i % 3 == 0 ? 5 : 0,
                        .top_p = i % 2 == 0 ? 0.8f : 1.0f,
                        .seed = random(),
                        .mask = 1,
                        .num_top = 2};
    // The second of two; what others edit stays possible only where the mask has it.
    std::vector<uint32_t> masks(2 * MaskWords(vocab), 0);
    const std::span<uint32_t> mask = std::span(masks).subspan(MaskWords(vocab));
    const int kept = static_cast<int>(random() % vocab);
    mask[kept / kMaskBits] |= uint32_t{1} << (kept % kMaskBits);
    for (uint32_t& word : mask) word |= static_cast<uint32_t>(random() & random());
    std::vector<LogitEdit> edits;
    std::vector<LogitEdit> bans;
    for (int id = 0; id < vocab; ++id) {
      const LogitEdit edit = {.token_id = id, .bias = id % 7 == 0 ? 5.0f : 0.0f};
      if (id % 7 == 0) edits.push_back(edit);
      bans.push_back(edit);
      const bool is_kept = (mask[id / kMaskBits] >> (id % kMaskBits) & 1) != 0;
      if (!is_kept) bans.back().penalty = LogitEdit::kBanned;
    }
    masked.edits_end = static_cast<int32_t>(edits.size());
    SampleRow banned = masked;
    banned.mask = -1;
    banned.edits_end = static_cast<int32_t>(bans.size());
    const SampledToken actual = sampler.Sample(logits, masked, edits, masks);
    const SampledToken expected = sampler.Sample(logits, banned, bans, {});
    ASSERT_EQ(actual.token_id, expected.token_id) << "case " << i;
    ASSERT_EQ(actual.logprob, expected.logprob);  // of the model, whatever is masked
    ASSERT_EQ(actual.top_ids, expected.top_ids);
  }
}

}  // namespace
}  // namespace mea
