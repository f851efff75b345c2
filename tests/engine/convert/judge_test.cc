// What a conversion loses is measured on the whole converted model, on text that it did not see,
// and decides whether OUT appears.
#include "engine/convert/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/eval/kv_formats.h"
#include "tests/engine/convert/convert_harness.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using testing::ConvertHarness;
using ::testing::HasSubstr;

class JudgeTest : public ::testing::Test {
 protected:
  JudgeTest() {
    harness_.WriteInput(ConvertHarness::PlainSpec());
    options_ = harness_.Options();
    options_.key_heads = options_.value_heads = {1};
  }

  ConvertHarness harness_;
  ConvertOptions options_;
};

TEST_F(JudgeTest, AModelThatLosesMoreThanIsAcceptedIsNotPublished) {
  options_.out = harness_.path("whole");
  // A random model may as well gain by being composed: one that loses.
  ConvertReport whole;
  for (uint64_t seed = 1; seed < 20; ++seed) {
    harness_.WriteInput(ConvertHarness::PlainSpec(), seed);
    fs::remove_all(options_.out);
    whole = Convert(options_).value();
    if (whole.judgement->choices[0].loss_increase > 0.01) break;
  }
  ASSERT_TRUE(whole.published);
  const auto expected = testing::FilesIn(options_.out);
  const CacheChoice& converted = whole.judgement->choices[0];
  ASSERT_GT(converted.loss_increase, 0.01);
  EXPECT_TRUE(Verdict(whole, options_).ok());

  options_.out = harness_.path("out");
  options_.accept_loss = 0.9 * converted.loss_increase;
  const ConvertReport refused = Convert(options_).value();
  EXPECT_FALSE(refused.published);
  EXPECT_FALSE(fs::exists(options_.out));
  EXPECT_THAT(ReportJson(refused), HasSubstr("\"published\": false"));
  const std::string message(Verdict(refused, options_).message());
  EXPECT_THAT(message, HasSubstr("out: not published: on held-out text the loss rises by "));
  EXPECT_THAT(message, HasSubstr("at 25.0 % of the bytes, more than --accept-loss"));
  EXPECT_THAT(message, HasSubstr("serve IN with the int8 cache of all heads ("));
  EXPECT_THAT(message, HasSubstr("--accept-loss goes on from "));
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 0);

  // Accepted, it is published without computing anything again.
  std::vector<std::string> stages;
  options_.accept_loss = 1.1 * converted.loss_increase;
  options_.progress = [&](const Progress& p) {
    stages.emplace_back(p.stage);
    return absl::OkStatus();
  };
  EXPECT_TRUE(Convert(options_).value().published);
  for (const std::string& stage : stages) {
    EXPECT_THAT(stage, ::testing::AnyOf("writing", "publishing"));
  }
  EXPECT_EQ(testing::FilesIn(options_.out), expected);
}

TEST_F(JudgeTest, TheTextThatJudgesIsInNoOtherPart) {
  const Checkpoint in = OpenCheckpoint(options_.in).value();
  const TextShares shares{.learn = 1 << 20, .measure = 60, .held_out = 100};
  CalibrationText text = ReadCalibrationText(options_.calibration, in, shares).value();
  EXPECT_TRUE(text.is_apart);
  EXPECT_GE(NumTokens(text.held_out), 100);
  EXPECT_GE(NumTokens(text.measure), 60);
  for (const Document& document : text.held_out) {
    EXPECT_EQ(std::count(text.learn.begin(), text.learn.end(), document), 0);
    EXPECT_EQ(std::count(text.measure.begin(), text.measure.end(), document), 0);
  }
  // A text too short to be divided says so.
  testing::WriteText(harness_.text(), testing::ReadText(harness_.text()).substr(0, 250));
  text = ReadCalibrationText(options_.calibration, in, shares).value();
  EXPECT_FALSE(text.is_apart);
  EXPECT_EQ(text.held_out, text.learn);
  EXPECT_THAT(ReportTable(Convert(options_).value()), HasSubstr("tokens that were also learned"));
}

TEST_F(JudgeTest, TheFiguresAreThoseOfTheModelsAlone) {
  const ConvertReport report = Convert(options_).value();
  const Judgement& judgement = *report.judgement;
  const Checkpoint in = OpenCheckpoint(options_.in).value();
  const Checkpoint out = OpenCheckpoint(options_.out).value();
  const CalibrationText text = ReadCalibrationText(options_.calibration, in,
                                                   {.learn = options_.calibration_tokens,
                                                    .measure = options_.measure_tokens,
                                                    .held_out = options_.held_out_tokens})
                                   .value();
  EXPECT_EQ(judgement.num_tokens, NumTokens(text.held_out));
  const auto loss_of = [&](const Checkpoint& checkpoint, const auto& dtype) {
    const auto reader = Reader::Create(checkpoint, {.num_threads = 1, .kv_dtype = dtype}).value();
    return reader->Loss(text.held_out).value();
  };
  const double plain = loss_of(in, DType::kF32);
  EXPECT_NEAR(judgement.plain_loss, plain, 1e-5);
  const std::vector<KvFormat> formats = CompactKvFormats();
  ASSERT_EQ(judgement.choices.size(), 1 + formats.size());
  EXPECT_NEAR(judgement.choices[0].loss_increase, loss_of(out, DType::kF32) - plain, 1e-5);
  for (size_t i = 0; i < formats.size(); ++i) {
    const CacheChoice& choice = judgement.choices[1 + i];
    EXPECT_EQ(choice.name, formats[i].name + " cache of all heads");
    EXPECT_NEAR(choice.loss_increase, loss_of(in, formats[i].dtype) - plain, 1e-5);
  }
  EXPECT_EQ(judgement.choices[0].bytes_per_token, report.bytes_per_token_after);
  EXPECT_GT(judgement.choices[0].kl, judgement.choices[1].kl);
  EXPECT_LT(judgement.choices[0].top1, 1);
}

}  // namespace
}  // namespace mea::convert
