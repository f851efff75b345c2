// Sampling and log-probabilities on the emulator, against the host's sampler, to the bit.
#include "kernels/cuda/sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/host_sample.h"
#include "tests/kernels/cuda/device_rows.h"

namespace mea::cuda {
namespace {

// Rows of logits, how each is drawn from, and where they lie in a wider buffer.
struct Batch {
  int vocab = 0;
  std::vector<float> logits;  // [rows.size(), vocab]
  std::vector<SampleRow> rows;
  std::vector<LogitEdit> edits;
  std::vector<uint32_t> masks;  // [n, MaskWords(vocab)]
  int left = 0;
  int right = 0;
};

std::vector<SampledToken> SampleOnDevice(const Batch& batch) {
  const int num_rows = static_cast<int>(batch.rows.size());
  const DeviceRows<float> logits(num_rows, batch.vocab, batch.logits, batch.left, batch.right);
  const simt::DeviceVector<SampleRow> rows(batch.rows);
  const simt::DeviceVector<LogitEdit> edits(batch.edits.empty() ? std::vector<LogitEdit>(1)
                                                                : batch.edits);
  const simt::DeviceVector<uint32_t> masks(batch.masks.empty() ? std::vector<uint32_t>(1)
                                                               : batch.masks);
  const simt::DeviceVector<float> edited(batch.logits.size());
  const simt::DeviceVector<SampledToken> tokens(num_rows);
  EXPECT_EQ(LaunchSample({.logits = logits.data(),
                          .logits_stride = logits.stride(),
                          .rows = rows.data(),
                          .edits = edits.data(),
                          .masks = masks.data(),
                          .edited = edited.data(),
                          .tokens = tokens.data(),
                          .num_rows = num_rows,
                          .vocab = batch.vocab},
                         nullptr),
            cudaSuccess);
  EXPECT_TRUE(SameBits(logits.ToHost(), batch.logits));
  return tokens.ToHost();
}

void ExpectSameAsHost(const Batch& batch) {
  const std::vector<SampledToken> actual = SampleOnDevice(batch);
  HostSampler sampler;
  for (size_t r = 0; r < actual.size(); ++r) {
    SCOPED_TRACE("row " + std::to_string(r));
    const std::span<const float> logits(batch.logits.data() + r * batch.vocab, batch.vocab);
    const SampledToken expected = sampler.Sample(logits, batch.rows[r], batch.edits, batch.masks);
    ASSERT_EQ(actual[r].is_finite, expected.is_finite);
    if (!expected.is_finite) continue;
    ASSERT_EQ(actual[r].token_id, expected.token_id);
    if (batch.rows[r].num_top < 0) continue;
    EXPECT_NEAR(actual[r].logprob, expected.logprob, 1e-6 + 1e-7 * std::fabs(expected.logprob));
    for (int i = 0; i < std::min(batch.rows[r].num_top, batch.vocab); ++i) {
      EXPECT_EQ(actual[r].top_ids[i], expected.top_ids[i]);
      EXPECT_NEAR(actual[r].top_logprobs[i], expected.top_logprobs[i],
                  1e-6 + 1e-7 * std::fabs(expected.top_logprobs[i]));
    }
  }
}

// One row per combination of filters, temperatures among them.
std::vector<SampleRow> ManyRows() {
  std::vector<SampleRow> rows;
  for (const float temperature : {0.0f, 0.3f, 1.0f, 3.0f}) {
    for (const int top_k : {0, 1, 7, 3000}) {
      for (const float top_p : {1.0f, 0.9f, 0.2f}) {
        for (const float min_p : {0.0f, 0.1f}) {
          rows.push_back({.temperature = temperature,
                          .top_k = top_k,
                          .top_p = top_p,
                          .min_p = min_p,
                          .seed = rows.size(),
                          .counter = 3 * rows.size()});
        }
      }
    }
  }
  return rows;
}

class SampleTest : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Vocab, SampleTest, testing::Values(1, 5, 128, 1000, 4099, 17000));

TEST_P(SampleTest, EveryFilterDrawsAsTheHostDoes) {
  Batch batch{.vocab = GetParam(), .rows = ManyRows()};
  batch.logits = NormalFloats(static_cast<int64_t>(batch.rows.size()) * batch.vocab, 1, 3.0);
  ExpectSameAsHost(batch);
}

TEST_P(SampleTest, TiesGoToTheLowestIds) {
  Batch batch{.vocab = GetParam(), .rows = ManyRows(), .left = 3, .right = 2};
  batch.logits = NormalFloats(static_cast<int64_t>(batch.rows.size()) * batch.vocab, 2, 2.0);
  // Half numbers, and some rows without any difference.
  for (size_t i = 0; i < batch.logits.size(); ++i) {
    const bool flat = i / batch.vocab % 5 == 0;
    batch.logits[i] = flat ? 0.5f : std::round(batch.logits[i] * 2) / 2;
  }
  for (size_t r = 0; r < batch.rows.size(); r += 3) batch.rows[r].num_top = kMaxTopLogprobs;
  ExpectSameAsHost(batch);
}

TEST_P(SampleTest, TheBestMayLieSideBySide) {
  // All that a filter keeps is seen by few threads: the short list of the best gets long.
  Batch batch{.vocab = GetParam(), .rows = ManyRows(), .right = 1};
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    for (int id = 0; id < batch.vocab; ++id) {
      batch.logits.push_back(-0.001f * static_cast<float>(r % 2 == 0 ? id : batch.vocab - id));
    }
    batch.rows[r].num_top = static_cast<int>(r % 21);
  }
  ExpectSameAsHost(batch);
}

TEST_P(SampleTest, LogprobsAreThoseOfTheModel) {
  Batch batch{.vocab = GetParam()};
  for (int r = 0; r < 21; ++r) {
    batch.rows.push_back({.temperature = 2.0f, .top_k = r, .seed = 7, .num_top = r});
    const auto row = NormalFloats(batch.vocab, 40 + r, r % 2 == 0 ? 1.0 : 30.0);
    batch.logits.insert(batch.logits.end(), row.begin(), row.end());
  }
  ExpectSameAsHost(batch);
}

TEST_P(SampleTest, EditsChangeTheDrawAndNotTheLogprobs) {
  Batch batch{.vocab = GetParam(), .rows = ManyRows()};
  batch.logits = NormalFloats(static_cast<int64_t>(batch.rows.size()) * batch.vocab, 3, 3.0);
  std::mt19937_64 random(4);
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    SampleRow& row = batch.rows[r];
    row.num_top = 2;
    row.edits_begin = static_cast<int32_t>(batch.edits.size());
    std::vector<int32_t> ids(batch.vocab);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random);
    ids.resize(std::min<size_t>(ids.size(), 1 + random() % 2000));
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool banned = i > 0 && random() % 4 == 0;
      batch.edits.push_back(
          {.token_id = ids[i],
           .bias = static_cast<float>(random() % 5) * 0.7f,
           .repetition = random() % 2 == 0 ? 1.0f : 1.3f,
           .penalty = banned ? LogitEdit::kBanned : static_cast<float>(random() % 3) * 0.3f});
    }
    row.edits_end = static_cast<int32_t>(batch.edits.size());
    row.restricted = static_cast<int32_t>(r % 2);
  }
  ExpectSameAsHost(batch);
}

TEST_P(SampleTest, MasksGoWithEditsAndFilters) {
  Batch batch{.vocab = GetParam(), .rows = ManyRows(), .left = 1};
  batch.logits = NormalFloats(static_cast<int64_t>(batch.rows.size()) * batch.vocab, 31, 3.0);
  std::mt19937_64 random(32);
  const int64_t words = MaskWords(batch.vocab);
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    SampleRow& row = batch.rows[r];
    row.num_top = 3;
    row.edits_begin = static_cast<int32_t>(batch.edits.size());
    for (int id = 0; r % 2 == 0 && id < batch.vocab; id += 1 + static_cast<int>(random() % 9)) {
      batch.edits.push_back({.token_id = id, .bias = 4.0f, .repetition = 1.2f, .penalty = 0.5f});
    }
    row.edits_end = static_cast<int32_t>(batch.edits.size());
    if (r % 5 == 4) continue;  // without a mask
    // About half of the tokens, or one.
    row.mask = static_cast<int32_t>(batch.masks.size() / words);
    std::vector<uint32_t> mask(words);
    for (uint32_t& word : mask) word = r % 3 == 0 ? static_cast<uint32_t>(random()) : 0;
    const int kept = static_cast<int>(random() % batch.vocab);
    mask[kept / kMaskBits] |= uint32_t{1} << (kept % kMaskBits);
    batch.masks.insert(batch.masks.end(), mask.begin(), mask.end());
  }
  ExpectSameAsHost(batch);
  const auto tokens = SampleOnDevice(batch);
  for (size_t r = 0; r < tokens.size(); ++r) {
    if (batch.rows[r].mask < 0) continue;
    const uint32_t* mask = batch.masks.data() + batch.rows[r].mask * words;
    EXPECT_NE(mask[tokens[r].token_id / kMaskBits] >> (tokens[r].token_id % kMaskBits) & 1, 0u);
  }
}

TEST_P(SampleTest, ARowDependsOnItselfAlone) {
  Batch many{.vocab = GetParam(), .rows = ManyRows()};
  many.logits = NormalFloats(static_cast<int64_t>(many.rows.size()) * many.vocab, 5, 3.0);
  const auto together = SampleOnDevice(many);
  for (size_t r = 0; r < many.rows.size(); r += 17) {
    const float* row = many.logits.data() + r * many.vocab;
    const auto alone = SampleOnDevice(
        {.vocab = many.vocab, .logits = {row, row + many.vocab}, .rows = {many.rows[r]}});
    EXPECT_EQ(alone[0].token_id, together[r].token_id);
  }
}

TEST_P(SampleTest, LogitsThatAreNotFiniteAreReported) {
  Batch batch{.vocab = GetParam()};
  const float infinity = std::numeric_limits<float>::infinity();
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       -std::numeric_limits<float>::quiet_NaN(), infinity, -infinity,
                       __builtin_bit_cast(float, 0xffffffffu)};
  for (const float value : bad) {
    auto row = NormalFloats(batch.vocab, 6);
    row[batch.vocab / 2] = value;
    batch.logits.insert(batch.logits.end(), row.begin(), row.end());
    batch.rows.push_back({.top_k = 4, .num_top = 3});
  }
  for (const SampledToken& token : SampleOnDevice(batch)) EXPECT_EQ(token.is_finite, 0);
}

TEST_P(SampleTest, TokenLogprobsAreLogSoftmaxAtTheTargets) {
  const int vocab = GetParam();
  const int num_rows = 5;
  auto logits = NormalFloats(int64_t{num_rows} * vocab, 7, 4.0);
  const std::vector<int32_t> targets = {0, vocab - 1, -1, vocab / 3, vocab / 2};
  logits[int64_t{4} * vocab] = std::numeric_limits<float>::infinity();
  const DeviceRows<float> device_logits(num_rows, vocab, logits, 0, 4);
  const simt::DeviceVector<int32_t> device_targets(targets);
  const simt::DeviceVector<float> logprobs(num_rows);
  ASSERT_EQ(LaunchTokenLogprobs({.logits = device_logits.data(),
                                 .logits_stride = device_logits.stride(),
                                 .targets = device_targets.data(),
                                 .logprobs = logprobs.data(),
                                 .num_rows = num_rows,
                                 .vocab = vocab},
                                nullptr),
            cudaSuccess);
  const auto actual = logprobs.ToHost();
  for (const int r : {0, 1, 3}) {
    const std::span<const float> row(logits.data() + int64_t{r} * vocab, vocab);
    EXPECT_NEAR(actual[r], row[targets[r]] - LogSumExp(row), 2e-6);
  }
  EXPECT_EQ(__builtin_bit_cast(uint32_t, actual[2]), 0xffffffffu);  // untouched
  EXPECT_TRUE(std::isnan(actual[4]));
}

// A real model's size; one row each of the usual kinds.
TEST(SampleSizeTest, AVocabularyOf262144DrawsAsTheHostDoes) {
  Batch batch{.vocab = 262144,
              .rows = {{.temperature = 0},
                       {.temperature = 0.8f, .seed = 1},
                       {.temperature = 0.7f, .top_k = 20, .top_p = 0.8f, .seed = 2, .num_top = 20},
                       {.temperature = 1.0f, .top_p = 0.95f, .seed = 3},
                       {.temperature = 1.0f, .top_p = 0.95f, .min_p = 0.05f, .seed = 4}}};
  batch.logits = NormalFloats(int64_t{5} * batch.vocab, 8, 2.5);
  ExpectSameAsHost(batch);
}

TEST(SampleSizeTest, VocabulariesBeyondTheLimitAreRefused) {
  EXPECT_EQ(LaunchSample({.num_rows = 1, .vocab = kMaxSampleVocab + 1}, nullptr),
            cudaErrorInvalidValue);
}

TEST(SampleDistributionTest, DrawsFollowTheFilteredSoftmax) {
  // 8 tokens; with 7 degrees of freedom, 29.9 is exceeded with probability 1e-4.
  const std::vector<float> logits = {1.0f, 3.0f, 2.5f, -1.0f, 0.0f, 2.0f, -4.0f, 1.5f};
  const int num_draws = 4000;
  Batch batch{.vocab = 8};
  for (int i = 0; i < num_draws; ++i) {
    batch.logits.insert(batch.logits.end(), logits.begin(), logits.end());
    batch.rows.push_back({.temperature = 2.0f, .top_k = 6, .seed = 1000u + i, .counter = 5});
  }
  std::vector<double> probabilities;
  for (const float x : logits) probabilities.push_back(x < 0 ? 0 : std::exp(x / 2.0));
  const double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  std::vector<int> counts(logits.size());
  for (const SampledToken& token : SampleOnDevice(batch)) ++counts[token.token_id];
  double statistic = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = num_draws * probabilities[i] / sum;
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
    } else {
      statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
  }
  EXPECT_LT(statistic, 29.9);
}

}  // namespace
}  // namespace mea::cuda
