// Mixes in pivot form: what conversions write, and what becomes of checkpoints that others wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/convert/output.h"
#include "engine/convert/pivot.h"
#include "engine/convert/problems.h"
#include "tests/engine/convert/convert_harness.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using testing::ConvertHarness;
using ::testing::HasSubstr;

// Projections are rounded to f32 in either basis.
constexpr double kRebaseTolerance = 2e-5;

// Every W_lc of a checkpoint is F32, bounded, and has a column that is exactly each unit vector.
void ExpectMixesInPivotForm(const fs::path& dir) {
  const Checkpoint checkpoint = OpenCheckpoint(dir).value();
  int num_mixes = 0;
  for (const auto& [name, tensor] : checkpoint.tensors.tensors()) {
    if (!name.ends_with("_hlc.weight")) continue;
    SCOPED_TRACE(name);
    ++num_mixes;
    ASSERT_EQ(tensor.dtype, StoredDType::kF32);
    const int64_t components = tensor.shape[0];
    const int64_t heads = tensor.shape[1];
    std::vector<float> mix(components * heads);
    std::memcpy(mix.data(), tensor.data(), tensor.num_bytes);
    for (const float entry : mix) EXPECT_LE(std::abs(entry), 1.05f);
    for (int64_t c = 0; c < components; ++c) {
      int num_columns = 0;
      for (int64_t j = 0; j < heads; ++j) {
        bool is_unit = true;
        for (int64_t k = 0; k < components; ++k) {
          is_unit = is_unit && mix[k * heads + j] == (k == c ? 1.0f : 0.0f);
        }
        num_columns += is_unit;
      }
      EXPECT_GE(num_columns, 1) << "component " << c;
    }
  }
  EXPECT_GT(num_mixes, 0);
}

TEST(RebaseTest, ConversionsWriteThePivotFormAndLoseNothingByIt) {
  for (const char* base : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(base);
    ConvertHarness harness;
    testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
    spec.base_model_type = base;
    harness.WriteInput(spec);
    ConvertOptions options = harness.Options();
    options.method = Method::kSvd;
    options.calibration = "";
    options.key_heads = {3, 2};
    options.value_heads = {2, 4};
    const ConvertReport report = Convert(options).value();
    ExpectMixesInPivotForm(options.out);
    for (const LayerResult& layer : report.layers) {
      ASSERT_TRUE(layer.key_mix);
      EXPECT_LE(layer.key_mix->largest_entry, 1.05);
      EXPECT_GE(layer.key_mix->condition, 1);
    }
    EXPECT_TRUE(report.layers[0].value_mix);
    EXPECT_FALSE(report.layers[1].value_mix);

    // The same compositions as they were solved.
    const Checkpoint in = OpenCheckpoint(options.in).value();
    const auto compose = [&](int layer) -> absl::StatusOr<LayerMatrices> {
      const LayerMatrices w = ReadLayerMatrices(in, layer).value();
      const KeyComposition keys =
          ComposeKeysBySvd(MakeKeyProblem(in.config, w, nullptr), options.key_heads[layer]);
      const ValueComposition values =
          ComposeValuesBySvd(MakeValueProblem(in.config, w, nullptr), options.value_heads[layer]);
      return Compose(w, in.config.head_dim, &keys, layer == 0 ? &values : nullptr);
    };
    fs::create_directory(harness.path("solved"));
    const LayerPlan plan = {{3, 2, true, true}, {2, 4, true, false}};
    ASSERT_TRUE(WriteCheckpoint(in, {.heads = plan}, compose, harness.path("solved")).ok());
    EXPECT_LT(testing::MaxDifference(testing::Logprobs(harness.path("solved")),
                                     testing::Logprobs(options.out)),
              kRebaseTolerance);
  }
}

testing::RandomCheckpointSpec TrainedSpec(const char* base) {
  testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
  spec.base_model_type = base;
  spec.mea = true;
  spec.key_heads = {3, 4};
  spec.value_heads = {2, 1};
  return spec;
}

ConvertOptions RebaseOptions(const ConvertHarness& harness) {
  return {.in = harness.path("in"), .out = harness.path("out"), .method = Method::kRebase};
}

TEST(RebaseTest, ATrainedModelStaysTheSameModel) {
  for (const char* base : {"llama", "qwen2", "qwen3", "qwen3_moe"}) {
    for (const auto head_norm : {testing::HeadNormGain::kNone, testing::HeadNormGain::kPerHead}) {
      SCOPED_TRACE(base);
      ConvertHarness harness;
      testing::RandomCheckpointSpec spec = TrainedSpec(base);
      spec.head_norm = head_norm;
      harness.WriteInput(spec);
      const ConvertOptions options = RebaseOptions(harness);
      const ConvertReport report = Convert(options).value();
      EXPECT_EQ(report.method, "rebase");
      ExpectMixesInPivotForm(options.out);
      EXPECT_LT(
          testing::MaxDifference(testing::Logprobs(options.in), testing::Logprobs(options.out)),
          kRebaseTolerance);
      EXPECT_EQ(testing::ReadText(options.in / "config.json"),
                testing::ReadText(options.out / "config.json"));
    }
  }
}

TEST(RebaseTest, ASecondTimeNothingChanges) {
  ConvertHarness harness;
  testing::RandomCheckpointSpec spec = TrainedSpec("llama");
  spec.dtype = DType::kBf16;
  spec.num_shards = 2;
  harness.WriteInput(spec);
  ConvertOptions options = RebaseOptions(harness);
  ASSERT_TRUE(Convert(options).ok());
  options.in = options.out;
  options.out = harness.path("again");
  const ConvertReport again = Convert(options).value();
  EXPECT_EQ(again.layers[0].key_mix->condition, 1);
  EXPECT_EQ(testing::FilesIn(options.in), testing::FilesIn(options.out));
}

TEST(RebaseTest, LossesAreToldWhereThereIsAText) {
  ConvertHarness harness;
  harness.WriteInput(TrainedSpec("llama"));
  ConvertOptions options = harness.Options();
  options.method = Method::kRebase;
  const ConvertReport report = Convert(options).value();
  EXPECT_NEAR(report.judgement->choices[0].loss_increase, 0, 1e-5);
}

TEST(RebaseTest, WhatHasNoMixIsRefused) {
  ConvertHarness harness;
  const auto message = [&](const testing::RandomCheckpointSpec& spec, Method method) {
    fs::remove_all(harness.path("in"));
    harness.WriteInput(spec);
    ConvertOptions options = RebaseOptions(harness);
    options.method = method;
    return std::string(Convert(options).status().message());
  };
  testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
  EXPECT_THAT(message(spec, Method::kRebase),
              HasSubstr("config.json: head_composition.kind: expected \"mea\", which method rebase "
                        "changes the mixes of, found \"none\""));
  spec.mea = true;
  spec.write_identity_mix = false;
  EXPECT_THAT(message(spec, Method::kRebase), HasSubstr("no layer has a mix of heads"));
  spec.knock = "linear";
  EXPECT_THAT(message(spec, Method::kRebase), HasSubstr("found \"kha\""));
  EXPECT_THAT(message(TrainedSpec("llama"), Method::kSvd),
              HasSubstr("whose heads are composed; method rebase changes their basis alone"));
  ConvertOptions options = RebaseOptions(harness);
  options.key_heads = {2};
  EXPECT_EQ(Convert(options).status().message(),
            "method rebase keeps the heads there are: give none");
}

}  // namespace
}  // namespace mea::convert
