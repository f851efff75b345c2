#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/bench/attention_bench.h"
#include "engine/bench/engine_bench.h"
#include "engine/bench/paced.h"
#include "engine/model/model_weights.h"
#include "tests/support/random_model.h"

namespace mea {
namespace {

using ::testing::ElementsAre;
using testing::MakeConfig;

const std::vector<HeadStorage> kBoth = {HeadStorage::kAsConfigured, HeadStorage::kOneHot};

EngineBenchOptions Quick() {
  EngineBenchOptions options;
  options.shape = "tiny";
  options.storages = kBoth;
  options.batches = {1, 3};
  options.contexts = {40};
  options.prefill_chunks = {8};
  options.page_size = 16;
  options.roofline.num_threads = 1;
  options.beyond_caches_bytes = 1 << 20;
  options.rounds = 2;
  options.round_seconds = 0;
  return options;
}

absl::StatusOr<std::unique_ptr<Backend>> OneThread() {
  return CreateCpuBackend({.num_threads = 1});
}

absl::StatusOr<ModelWeights> Weights(const ModelConfig& config, HeadStorage storage,
                                     Backend& backend) {
  auto weights = MakeRandomWeights(config, DType::kBf16, 1, 1);
  if (storage != HeadStorage::kOneHot) return weights;
  if (absl::Status s = MakeMixesOneHot(*weights, backend); !s.ok()) return s;
  return weights;
}

std::vector<BenchRow> Measure(const EngineBenchOptions& options) {
  return *BenchEngine(MakeConfig({}), options, OneThread, Weights);
}

TEST(EngineBenchTest, MeasuresEveryPointSideBySide) {
  std::vector<std::string> points;
  for (const BenchRow& row : Measure(Quick())) {
    EXPECT_EQ(row.skipped, "");
    EXPECT_EQ(row.seconds.rounds, 2);
    EXPECT_GT(row.seconds.min, 0);
    EXPECT_LE(row.seconds.min, row.seconds.median);
    EXPECT_LE(row.seconds.median, row.seconds.max);
    EXPECT_GT(row.floor_seconds(), 0);
    points.push_back(row.bench + " " + row.storage + " " + std::to_string(row.batch) + " x " +
                     std::to_string(row.tokens) + " of " + std::to_string(row.context));
  }
  EXPECT_THAT(points, ElementsAre("decode mea 1 x 1 of 40", "decode one-hot 1 x 1 of 40",
                                  "decode mea 3 x 1 of 40", "decode one-hot 3 x 1 of 40",
                                  "prefill mea 1 x 8 of 8", "prefill one-hot 1 x 8 of 8",
                                  "prefill mea 1 x 8 of 48", "prefill one-hot 1 x 8 of 48"));
}

TEST(EngineBenchTest, HalfOfTheHeadsHoldTwiceTheSequencesInEqualMemory) {
  EngineBenchOptions options = Quick();
  options.batches = {};
  options.prefill_chunks = {0};
  // Twelve pages of the twin, four sequences of three pages.
  options.equal_memory_bytes = 12 * 2 * (4 + 4) * 16 * 2 * 16;
  const std::vector<BenchRow> rows = Measure(options);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].memory, "equal");
  EXPECT_EQ(rows[0].batch, 8);
  EXPECT_EQ(rows[1].batch, 4);
  EXPECT_EQ(rows[0].cache_bytes, rows[1].cache_bytes);
}

TEST(EngineBenchTest, PointsThatDoNotFitAreSaidToBeSkipped) {
  EngineBenchOptions options = Quick();
  options.prefill_chunks = {0};
  // Of the two shares each holds three sequences of the compressed shape, one of the other.
  options.max_cache_bytes = 2 * 9 * 2 * (2 + 2) * 16 * 2 * 16;
  const std::vector<BenchRow> rows = Measure(options);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[2].skipped, "");
  EXPECT_EQ(rows[3].skipped, "does not fit");
  EXPECT_EQ(rows[3].seconds.rounds, 0);
}

TEST(PacedTest, AnswersEveryLineInOrder) {
  EngineBenchOptions options = Quick();
  options.storages = {HeadStorage::kAsConfigured};
  options.rounds = 1;
  const auto bench = *EngineBench::Create(MakeConfig({}), options, OneThread, Weights);
  std::istringstream requests("1 48 8\n3 40 1\n3 41 1\n3 40\n1 48 8\n");
  std::stringstream answers;
  MeasureOnRequest(*bench, requests, answers);
  std::vector<std::string> told;
  for (std::string line; std::getline(answers, line);) {
    const nlohmann::json answer = nlohmann::json::parse(line);
    if (answer.contains("error")) {
      told.push_back(answer["error"]);
      continue;
    }
    ASSERT_EQ(answer["results"].size(), 1u);
    const nlohmann::json& row = answer["results"][0];
    EXPECT_GT(row["seconds"]["median"], 0);
    EXPECT_EQ(row["seconds"]["rounds"], 1);
    told.push_back(row["bench"].get<std::string>() + " " + row["context"].dump());
  }
  EXPECT_THAT(told,
              ElementsAre("prefill 48", "decode 40", "no point of batch 3, context 41, 1 tokens",
                          "\"3 40\" is not BATCH CONTEXT TOKENS", "prefill 48"));
}

TEST(AttentionBenchTest, MeasuresEveryBatchAndContext) {
  BenchOptions options = Quick();
  options.contexts = {16, 100};
  options.prefill_chunks = {0};
  // Normalised virtual keys: their scalars are part of the cache.
  const std::vector<BenchRow> rows =
      *BenchAttention(MakeConfig({.qk_norm = true}), options, OneThread);
  ASSERT_EQ(rows.size(), 8u);
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.bench, "attention");
    EXPECT_GT(row.seconds.min, 0);
  }
  EXPECT_EQ(rows[6].cache_bytes, 3 * 112 * (4 * 16 * 2 + 4 * 4));
  EXPECT_GT(rows[7].cost.bytes, rows[6].cost.bytes);
}

TEST(AttentionBenchTest, MeasuresChunksBehindNothingAndEveryContext) {
  BenchOptions options = Quick();
  options.batches = {};
  options.kernel = "mma";
  options.prefill_kernel = "wgmma";
  const std::vector<BenchRow> rows = *BenchAttention(MakeConfig({}), options, OneThread);
  std::vector<std::string> points;
  for (const BenchRow& row : rows) {
    EXPECT_GT(row.seconds.min, 0);
    points.push_back(row.bench + " " + row.storage + " " + std::to_string(row.tokens) + " of " +
                     std::to_string(row.context));
  }
  EXPECT_THAT(points,
              ElementsAre("attention/wgmma mea 8 of 8", "attention/wgmma one-hot 8 of 8",
                          "attention/wgmma mea 8 of 48", "attention/wgmma one-hot 8 of 48"));
  // Every query of a causal chunk sees all that is before it.
  EXPECT_GT(rows[2].cost.flops, 8 * rows[0].cost.flops);
}

TEST(ReportTest, JsonHasWhatTheTableHas) {
  const BenchRow measured{
      .bench = "decode",
      .shape = "tiny",
      .system = "mea",
      .storage = "mea",
      .batch = 4,
      .context = 100,
      .tokens = 1,
      .seconds = {.median = 0.5, .min = 0.4, .max = 0.7, .rounds = 3},
      .cost = {.bytes = 100, .flops = 60, .product_flops = 40},
      .roofline = {
          .bytes_per_second = 1000, .flops_per_second = 80, .product_flops_per_second = 160}};
  const BenchRow skipped{.bench = "decode", .storage = "one-hot", .skipped = "does not fit"};
  const std::string file = ::testing::TempDir() + "report_test.json";
  ASSERT_TRUE(
      WriteJson(file, "a command", DescribeMachine(Device::kCpu, 2), {measured, skipped}).ok());
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(file));
  std::remove(file.c_str());
  EXPECT_EQ(json["command"], "a command");
  EXPECT_EQ(json["machine"]["threads"], 2);
  EXPECT_EQ(json["machine"]["device"], "cpu");
  const nlohmann::json& row = json["results"][0];
  EXPECT_EQ(row["seconds"]["median"], 0.5);
  EXPECT_EQ(row["tokens_per_second"], 8);
  // Computing takes longest, half a second: 20 flops at 80 a second and 40 at 160.
  EXPECT_EQ(row["floor_seconds"], 0.5);
  EXPECT_EQ(row["share_of_floor"], 1);
  EXPECT_EQ(row["roofline"]["flops_per_second"], 120);
  EXPECT_EQ(json["results"][1]["skipped"], "does not fit");
  EXPECT_FALSE(json["results"][1].contains("seconds"));
  EXPECT_FALSE(WriteJson("/nonexistent/x.json", "", {}, {}).ok());
}

TEST(TimingTest, TheMedianOfAnEvenNumberLiesBetweenTwo) {
  EXPECT_EQ(MedianOf({3, 1, 2}), 2);
  EXPECT_EQ(MedianOf({4, 1, 3, 2}), 2.5);
  const Spread spread = SpreadOf({3, 1, 2});
  EXPECT_EQ(spread.min, 1);
  EXPECT_EQ(spread.max, 3);
}

}  // namespace
}  // namespace mea
