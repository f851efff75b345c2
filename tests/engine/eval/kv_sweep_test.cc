// What other ways to store a cache keep of a model's predictions.
#include "engine/eval/kv_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/load.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class KvSweepTest : public ::testing::Test {
 protected:
  KvSweepTest() {
    WriteModel("in", 1);
    options_ = {.model = path("in"),
                .formats = ParseKvFormats("f32,bf16,int8").value(),
                .text = testing::ReadText(MEA_SOURCE_DIR "/models/eval/heldout.txt"),
                .tokens = 700,
                .num_threads = 2};
  }
  fs::path path(const char* name) const { return dir_.path() / name; }
  void WriteModel(const char* name, uint64_t seed, int vocab_size = 1009,
                  int max_position = 2100) const {
    testing::WriteRandomCheckpoint(path(name),
                                   {.vocab_size = vocab_size, .max_position = max_position}, seed);
    fs::copy_file(MEA_SOURCE_DIR "/models/demo-mha/tokenizer.json", path(name) / "tokenizer.json",
                  fs::copy_options::overwrite_existing);
  }

  testing::TempDir dir_;
  KvSweepOptions options_;
};

TEST_F(KvSweepTest, TheFirstRowIsTheBf16CacheAndAgreesWithItself) {
  const KvSweep sweep = SweepKvFormats(options_).value();
  ASSERT_EQ(sweep.rows.size(), 3u);
  const KvSweepRow& bf16 = sweep.rows[0];
  EXPECT_EQ(bf16.cache, "bf16");
  EXPECT_FALSE(bf16.is_reference);
  EXPECT_EQ(bf16.share, 1);
  EXPECT_EQ(bf16.divergence.kl, 0);
  EXPECT_EQ(bf16.divergence.top1, 1);
  EXPECT_EQ(bf16.greedy.continuations, 16);
  EXPECT_EQ(bf16.greedy.tokens, 256);
  EXPECT_EQ(bf16.greedy.equal_prefix, 256);
  EXPECT_EQ(bf16.greedy.equal, 1);
  ASSERT_EQ(bf16.needles.size(), 1u);  // the context ends before 4096
  EXPECT_EQ(bf16.needles[0].tokens, 2048);
  EXPECT_EQ(bf16.needles[0].answers, 2 * kNeedles);
  EXPECT_GT(sweep.tokens, 650);
  EXPECT_LT(sweep.tokens, 1300);
}

TEST_F(KvSweepTest, FormatsAreMeasuredByBytesPredictionsAndNeedles) {
  const KvSweep sweep = SweepKvFormats(options_).value();
  const KvSweepRow& f32 = sweep.rows[1];
  const KvSweepRow& int8 = sweep.rows[2];
  EXPECT_EQ(f32.cache, "f32");
  EXPECT_EQ(f32.share, 2);
  EXPECT_EQ(int8.cache, "int8");
  EXPECT_EQ(int8.share, 10. / 16);  // heads of 8, and a scale
  EXPECT_EQ(int8.bytes_per_token, 2 * 2 * 2 * 10);
  EXPECT_GT(f32.divergence.kl, 0);
  EXPECT_GT(int8.divergence.kl, f32.divergence.kl);
  EXPECT_LT(int8.divergence.kl, 0.01);
  EXPECT_NE(int8.divergence.loss, sweep.rows[0].divergence.loss);
  EXPECT_NEAR(int8.divergence.loss, sweep.rows[0].divergence.loss, 0.01);
  ASSERT_EQ(int8.needles.size(), 1u);
  EXPECT_NE(int8.needles[0].nats, sweep.rows[0].needles[0].nats);
  EXPECT_NEAR(int8.needles[0].nats, sweep.rows[0].needles[0].nats, 1);
}

// Tokens and greedy agreement, counted by hand.
TEST_F(KvSweepTest, ContinuationsAreThoseOfAnEngineWithThatCache) {
  const KvSweep sweep = SweepKvFormats(options_).value();
  const Checkpoint checkpoint = OpenCheckpoint(path("in")).value();
  const auto tokenizer = Tokenizer::Load((path("in") / "tokenizer.json").string()).value();
  const Documents documents =
      SplitDocuments(*tokenizer, options_.text, checkpoint.generation.eos_token_ids, 1024).value();
  int64_t predicted = 0;  // all tokens but the first of each document
  for (const Document& document : FirstTokens(documents, options_.tokens)) {
    predicted += std::ssize(document) - 1;
  }
  EXPECT_EQ(sweep.tokens, predicted);
  Documents prompts;
  for (const Document& document : documents) {
    if (document.size() < 64 || prompts.size() == 16) continue;
    prompts.emplace_back(document.begin(), document.begin() + 64);
  }
  const auto backend = CreateCpuBackend({.num_threads = 1}).value();
  const auto model = LoadModel(checkpoint, "auto", backend.get(), {.max_logit_rows = 16}).value();
  const auto continuations = [&](const char* format) {
    const KvLayout layout = model->MakeKvLayout(ParseKvDType(format).value(), 16);
    const auto kv = CreateKvCache(*backend, layout, 8 << 20).value();
    EngineCore core(model.get(), kv.get(), 16, {});
    return ContinueGreedily(core, prompts, 256).value();
  };
  const Documents bf16 = continuations("bf16");
  const Documents int8 = continuations("int8");
  int prefix = 0;
  int equal = 0;
  for (size_t i = 0; i < bf16.size(); ++i) {
    int same = 0;
    while (same < 256 && bf16[i][same] == int8[i][same]) ++same;
    prefix += same;
    equal += same == 256;
  }
  const GreedyAgreement& found = sweep.rows[2].greedy;
  EXPECT_EQ(found.continuations, static_cast<int>(prompts.size()));
  EXPECT_DOUBLE_EQ(found.equal_prefix, prefix / static_cast<double>(prompts.size()));
  EXPECT_DOUBLE_EQ(found.equal, equal / static_cast<double>(prompts.size()));
  EXPECT_LT(found.equal, 1);  // else the test shows nothing
}

TEST_F(KvSweepTest, AReferenceIsTheFirstRowAndTheModelIsComparedWithIt) {
  WriteModel("other", 2);
  options_.reference = path("in");
  options_.model = path("other");
  options_.formats.clear();
  const KvSweep sweep = SweepKvFormats(options_).value();
  ASSERT_EQ(sweep.rows.size(), 2u);
  EXPECT_TRUE(sweep.rows[0].is_reference);
  EXPECT_EQ(sweep.rows[0].divergence.kl, 0);
  EXPECT_FALSE(sweep.rows[1].is_reference);
  EXPECT_GT(sweep.rows[1].divergence.kl, 0.1);
  EXPECT_LT(sweep.rows[1].greedy.equal_prefix, 10);
}

TEST_F(KvSweepTest, ModelsOfDifferentVocabulariesAreNotCompared) {
  WriteModel("other", 2, 1010);
  options_.reference = path("other");
  EXPECT_EQ(SweepKvFormats(options_).status().message(), "--reference " + path("other").string() +
                                                             ": its vocabulary is not that of " +
                                                             path("in").string());
  WriteModel("other", 2, 64);
  options_.model = path("other");
  EXPECT_THAT(SweepKvFormats(options_).status().message(), HasSubstr(" is beyond vocab_size 64"));
}

TEST_F(KvSweepTest, AShortContextLeavesOutWhatItCannotHold) {
  WriteModel("short", 1, 1009, 100);
  options_.model = path("short");
  const KvSweep sweep = SweepKvFormats(options_).value();
  EXPECT_EQ(sweep.rows[0].greedy.tokens, 36);
  EXPECT_TRUE(sweep.rows[0].needles.empty());

  options_.reference = path("in");
  const KvSweep shortened = SweepKvFormats(options_).value();
  EXPECT_EQ(shortened.rows[0].greedy.tokens, 36) << "the reference has no more to compare with";
  EXPECT_TRUE(shortened.rows[0].needles.empty());
  std::swap(options_.model, options_.reference);
  EXPECT_EQ(SweepKvFormats(options_).value().rows[3].greedy.tokens, 36);
  options_.text = "";
  EXPECT_EQ(SweepKvFormats(options_).status().message(), "the text has no token to predict");
}

TEST(KvSweepReportTest, RowsAreComparedWithTheFirst) {
  KvSweep sweep{.tokens = 700};
  sweep.rows.push_back(
      {.is_reference = true,
       .cache = "bf16",
       .bytes_per_token = 4096,
       .share = 1,
       .divergence = {.loss = 2.5},
       .greedy = {.continuations = 16, .tokens = 256, .equal_prefix = 256, .equal = 1},
       .needles = {{.tokens = 2048, .answers = 32, .right = 31, .nats = 8}}});
  sweep.rows.push_back(
      {.cache = "int8",
       .bytes_per_token = 1024,
       .share = 0.25,
       .divergence = {.loss = 2.375, .kl = 0.015625, .top1 = 0.96},
       .greedy = {.continuations = 16, .tokens = 256, .equal_prefix = 90.5, .equal = 0.25},
       .needles = {{.tokens = 2048, .answers = 32, .right = 7, .nats = 48}}});
  EXPECT_EQ(KvSweepTable(sweep),
            "loss of the first row 2.5000 nats per token of 700; the others are compared with it\n"
            "cache                     bytes per token      loss         KL   top 1"
            "    greedy, equal       needles in 2048\n"
            "reference, bf16            4096 (100.0 %)   +0.0000   0.000000 100.0 %"
            " 256.0 of 256, 100 %  31 of 32,  0.25 nats\n"
            "int8                       1024 ( 25.0 %)   -0.1250   0.015625  96.0 %"
            "  90.5 of 256, 25 %   7 of 32,  1.50 nats\n");
  const auto json = nlohmann::json::parse(KvSweepJson(sweep, {.model = "m", .reference = "r"}));
  EXPECT_EQ(json["rows"][0]["model"], "r");
  EXPECT_EQ(json["rows"][1], nlohmann::json::parse(R"({
    "model": "m", "cache": "int8", "bytes_per_token": 1024, "share": 0.25, "loss": 2.375,
    "loss_increase": -0.125, "kl": 0.015625, "top1": 0.96,
    "greedy": {"continuations": 16, "tokens": 256, "equal_prefix": 90.5, "equal": 0.25},
    "needles": [{"tokens": 2048, "answers": 32, "right": 7, "nats_per_answer": 1.5}]})"));
}

TEST_F(KvSweepTest, ProgressMayEndIt) {
  std::vector<std::string> stages;
  options_.progress = [&](std::string_view stage, int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    if (stages.empty() || stages.back() != stage) stages.emplace_back(stage);
    if (stage == "searching") {
      EXPECT_EQ(done, 1);
    }
    return stage == "searching" ? absl::CancelledError("enough") : absl::OkStatus();
  };
  EXPECT_EQ(SweepKvFormats(options_).status().message(), "enough");
  EXPECT_THAT(stages, ::testing::ElementsAre("comparing", "continuing", "searching"));
}

}  // namespace
}  // namespace mea
