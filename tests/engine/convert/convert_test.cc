#include "engine/convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model.h"
#include "engine/storage/files.h"
#include "engine/storage/output_file.h"
#include "kvcache/kv_layout.h"
#include "tests/engine/convert/convert_harness.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using testing::ConvertHarness;
using ::testing::HasSubstr;

std::string MessageOf(const ConvertOptions& options) {
  return std::string(Convert(options).status().message());
}

TEST(ConvertTest, HeadsAreThoseAskedFor) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = {3, 4};
  options.value_heads = {1};
  const ConvertReport report = Convert(options).value();
  const Checkpoint out = OpenCheckpoint(options.out).value();
  EXPECT_EQ(out.config.base_model_type, "llama");
  EXPECT_EQ(out.config.layer_heads[0], (LayerHeads{3, 1, true, true}));
  EXPECT_EQ(out.config.layer_heads[1], (LayerHeads{4, 1, false, true}));
  EXPECT_EQ(report.bytes_per_token_after,
            MakeKvLayout(out.config, DType::kBf16, {.page_size = 16}).BytesPerToken());
  EXPECT_TRUE(fs::exists(options.out / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(options.out / "generation_config.json"));
}

TEST(ConvertTest, OnlyTheChosenLayersAreComposed) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {2};
  options.layers = {1};
  ASSERT_TRUE(Convert(options).ok());
  const Checkpoint out = OpenCheckpoint(options.out).value();
  EXPECT_EQ(out.config.layer_heads[0], (LayerHeads{4, 4}));
  EXPECT_EQ(out.config.layer_heads[1], (LayerHeads{2, 2, true, true}));
}

TEST(ConvertTest, ABudgetIsKeptToTheByte) {
  for (const char* base : {"llama", "qwen3"}) {
    for (const double ratio : {0.75, 0.5, 0.4}) {
      SCOPED_TRACE(::testing::Message() << base << " " << ratio);
      ConvertHarness harness;
      testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
      spec.base_model_type = base;
      harness.WriteInput(spec);
      ConvertOptions options = harness.Options();
      options.ratio = ratio;
      const ConvertReport report = Convert(options).value();
      const KvLayout layout =
          MakeKvLayout(OpenCheckpoint(options.out).value().config, DType::kBf16, {.page_size = 16});
      EXPECT_EQ(report.bytes_per_token_after, layout.BytesPerToken());
      EXPECT_EQ(report.bytes_per_token_before, layout.UncompressedBytesPerToken());
      const double budget = ratio * static_cast<double>(report.bytes_per_token_before);
      EXPECT_LE(report.bytes_per_token_after, budget);
      // No head more would fit, unless all of them cost nothing.
      const int64_t head_bytes = spec.head_dim * 2;
      EXPECT_GT(report.bytes_per_token_after + 2 * head_bytes, budget);
      EXPECT_EQ(report.profile.size(), 2u * 2u * 3u);
    }
  }
}

TEST(ConvertTest, TheExpandedLayerLosesWhatTheComposedOneDoes) {
  for (const char* base : {"qwen2", "qwen3"}) {
    SCOPED_TRACE(base);
    ConvertHarness harness;
    testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
    spec.base_model_type = base;
    harness.WriteInput(spec);
    // So short that it is measured on and judged by as a whole.
    testing::WriteText(harness.text(), testing::ReadText(harness.text()).substr(0, 250));
    ConvertOptions options = harness.Options();
    options.out = harness.path("profile");
    const ConvertReport profile = ProfileLayers(options).value();
    EXPECT_FALSE(fs::exists(options.out));
    EXPECT_FALSE(fs::exists(harness.path("profile.partial")));
    for (const bool of_keys : {true, false}) {
      options.out = harness.path(of_keys ? "keys" : "values");
      options.layers = {1};
      (of_keys ? options.key_heads : options.value_heads) = {2};
      (of_keys ? options.value_heads : options.key_heads) = {4};
      const ConvertReport report = Convert(options).value();
      for (const ProfileEntry& entry : profile.profile) {
        if (entry.layer != 1 || entry.of_keys != of_keys || entry.heads != 2) continue;
        EXPECT_NEAR(report.judgement->choices[0].loss_increase, entry.loss_increase, 1e-5);
        EXPECT_NE(entry.loss_increase, 0);
      }
    }
  }
}

TEST(ConvertTest, AProfileRefitsWhatItMeasures) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  // What is measured is what is learned from.
  testing::WriteText(harness.text(), testing::ReadText(harness.text()).substr(0, 250));
  ConvertOptions options = harness.Options();
  const ConvertReport as_composed = ProfileLayers(options).value();
  options.heal = true;
  const ConvertReport healed = ProfileLayers(options).value();
  ASSERT_EQ(healed.profile.size(), as_composed.profile.size());
  for (size_t i = 0; i < healed.profile.size(); ++i) {
    if (healed.profile[i].of_keys) continue;
    EXPECT_LT(healed.profile[i].kl, 0.9 * as_composed.profile[i].kl) << i;
  }
}

TEST(ConvertTest, StatisticsOfOneLayerAtATimeGiveTheSameBytes) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {2};
  int readings = 0;
  options.progress = [&](const Progress& p) {
    readings += p.stage == "calibrating" && p.done == p.total;
    return absl::OkStatus();
  };
  ASSERT_TRUE(Convert(options).ok());
  EXPECT_EQ(readings, 1);
  const auto at_once = testing::FilesIn(options.out);
  options.out = harness.path("one by one");
  options.statistics_bytes = 1;
  ASSERT_TRUE(Convert(options).ok());
  EXPECT_EQ(readings, 1 + ConvertHarness::PlainSpec().num_layers);
  EXPECT_EQ(testing::FilesIn(options.out), at_once);
}

TEST(ConvertTest, ShardsAndDTypesStayAsTheyAre) {
  ConvertHarness harness;
  testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
  spec.num_shards = 3;
  spec.dtype = DType::kBf16;
  harness.WriteInput(spec);
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {2};
  ASSERT_TRUE(Convert(options).ok());
  const Checkpoint in = OpenCheckpoint(options.in).value();
  const Checkpoint out = OpenCheckpoint(options.out).value();
  EXPECT_EQ(out.tensors.num_files(), 3);
  for (const auto& [name, tensor] : in.tensors.tensors()) {
    SCOPED_TRACE(name);
    const StoredTensor* now = out.tensors.Find(name);
    ASSERT_NE(now, nullptr);
    EXPECT_EQ(now->dtype, tensor.dtype);
    EXPECT_EQ(fs::path(now->file->path()).filename(), fs::path(tensor.file->path()).filename());
    if (name.find("self_attn") != name.npos) continue;
    EXPECT_EQ(std::string_view(now->data(), now->num_bytes),
              std::string_view(tensor.data(), tensor.num_bytes));
  }
  EXPECT_EQ(out.tensors.Find("model.layers.0.self_attn.k_hlc.weight")->dtype, StoredDType::kF32);
}

TEST(ConvertTest, ExpertsAreCopiedAndTheirModelServes) {
  for (const char* base : {"mixtral", "qwen3_moe"}) {
    SCOPED_TRACE(base);
    ConvertHarness harness;
    testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
    spec.base_model_type = base;
    if (spec.base_model_type == "qwen3_moe") spec.dense_layers = {1};
    spec.dtype = DType::kBf16;
    harness.WriteInput(spec);
    ConvertOptions options = harness.Options();
    options.key_heads = options.value_heads = {2};
    const ConvertReport report = Convert(options).value();
    EXPECT_LT(report.bytes_per_token_after, report.bytes_per_token_before);
    const Checkpoint in = OpenCheckpoint(options.in).value();
    const Checkpoint out = OpenCheckpoint(options.out).value();
    EXPECT_EQ(out.config.base_model_type, base);
    int num_of_experts = 0;
    for (const auto& [name, tensor] : in.tensors.tensors()) {
      if (name.find("experts.") == name.npos && name.find("gate.weight") == name.npos) continue;
      SCOPED_TRACE(name);
      const StoredTensor* now = out.tensors.Find(name);
      ASSERT_NE(now, nullptr);
      EXPECT_EQ(std::string_view(now->data(), now->num_bytes),
                std::string_view(tensor.data(), tensor.num_bytes));
      ++num_of_experts;
    }
    const int sparse_layers = spec.num_layers - static_cast<int>(spec.dense_layers.size());
    EXPECT_EQ(num_of_experts, sparse_layers * (3 * spec.num_experts + 1));
    // What was written loads and predicts, and is another model.
    const double moved =
        testing::MaxDifference(testing::Logprobs(options.in), testing::Logprobs(options.out));
    EXPECT_GT(moved, 0);
    EXPECT_TRUE(std::isfinite(moved));
  }
}

TEST(ConvertTest, WhatCannotBeDoneIsRefused) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = {5};
  EXPECT_EQ(MessageOf(options), "key heads 5 is not in 1..4");
  options.key_heads = {};
  options.value_heads = {0};
  EXPECT_EQ(MessageOf(options), "value heads 0 is not in 1..4");
  options.value_heads = {1, 2, 3};
  EXPECT_EQ(MessageOf(options),
            "value heads: 3 numbers for a model of 2 layers; give one, or one per layer");
  options.value_heads = {};
  options.ratio = 1.5;
  EXPECT_EQ(MessageOf(options), "ratio 1.5 is not in (0, 1]");
  options.ratio = 0.1;
  EXPECT_THAT(MessageOf(options), HasSubstr("ratio 0.1: a budget of 25 bytes per token; at least"));
  fs::remove_all(harness.path("out.partial"));
  options.ratio = 0.5;
  options.layers = {2};
  EXPECT_EQ(MessageOf(options), "layer 2 is not in 0..1");
  options.layers = {1, 1};
  EXPECT_EQ(MessageOf(options), "layer 1 is named twice");
  options.layers = {};
  options.calibration = "/nowhere/text";
  EXPECT_EQ(MessageOf(options), "/nowhere/text: cannot be read");
  testing::WriteText(harness.path("short"), "Hello.");
  options.calibration = harness.path("short").string();
  EXPECT_THAT(MessageOf(options), HasSubstr(" tokens, at least 64 are needed"));
  options.calibration = "";
  EXPECT_EQ(MessageOf(options),
            "method aligned needs a calibration text; only svd looks at the weights alone");
  options.method = Method::kSvd;
  EXPECT_THAT(MessageOf(options), HasSubstr("a ratio needs a calibration text"));
  EXPECT_FALSE(fs::exists(harness.path("out")));
  EXPECT_FALSE(fs::exists(harness.path("out.partial")));

  options.key_heads = options.value_heads = {2};
  ASSERT_TRUE(Convert(options).ok());
  EXPECT_THAT(MessageOf(options), HasSubstr("out is there already"));
  options.in = options.out;
  options.out = harness.path("again");
  EXPECT_THAT(MessageOf(options), HasSubstr("model_type: expected a plain checkpoint"));
}

TEST(ConvertTest, KeysThatAreNormalisedTogetherAreNotComposed) {
  const testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
  ConvertHarness harness;
  harness.WriteInput(spec);
  const std::string file = harness.path("in") / "config.json";
  const std::string llama = *ReadTextFile(file);
  ASSERT_TRUE(ReplaceFile(file, absl::StrReplaceAll(llama, {{"\"llama\"", "\"olmo2\""}})).ok());
  std::vector<testing::RawTensor> tensors = testing::RandomTensors(spec, 1);
  for (testing::RawTensor& tensor : tensors) {
    tensor.name = absl::StrReplaceAll(tensor.name, {{"input_layer", "post_feedforward_layer"}});
  }
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (const auto& [name, heads] :
         {std::pair("q", spec.q_heads), std::pair("k", spec.kv_heads)}) {
      const int64_t size = int64_t{heads} * spec.head_dim;
      tensors.push_back({absl::StrCat("model.layers.", layer, ".self_attn.", name, "_norm.weight"),
                         "F32",
                         {size},
                         std::string(size * 4, '\0')});
    }
  }
  testing::WriteSafeTensors(harness.path("in") / "model.safetensors", tensors);
  ConvertOptions options = harness.Options();
  for (const std::vector<int>& keys : {std::vector<int>{}, std::vector<int>{2}}) {
    options.key_heads = keys;
    EXPECT_THAT(MessageOf(options), HasSubstr("olmo2 normalises the keys of all heads together"));
  }
}

TEST(ConvertTest, ValuesThatAreNotFiniteAreRefused) {
  ConvertHarness harness;
  std::vector<testing::RawTensor> tensors = testing::RandomTensors(ConvertHarness::PlainSpec(), 1);
  harness.WriteInput(ConvertHarness::PlainSpec());
  for (testing::RawTensor& tensor : tensors) {
    if (tensor.name == "model.layers.1.self_attn.v_proj.weight") {
      tensor.bytes.replace(40, 4, std::string("\0\0\xc0\x7f", 4));
    }
  }
  testing::WriteSafeTensors(harness.path("in") / "model.safetensors", tensors);
  ConvertOptions options = harness.Options();
  options.method = Method::kSvd;
  options.calibration = "";
  options.key_heads = options.value_heads = {2};
  EXPECT_THAT(MessageOf(options),
              HasSubstr("\"model.layers.1.self_attn.v_proj.weight\": expected "
                        "finite values in f32, found an infinity or NaN at [0, 10]"));
  EXPECT_FALSE(fs::exists(options.out));
}

TEST(ConvertTest, NumbersAreReadFromLists) {
  EXPECT_EQ(ParseInts("--kv-heads", "6,5,4").value(), (std::vector<int>{6, 5, 4}));
  EXPECT_EQ(ParseInts("--kv-heads", "").value(), std::vector<int>());
  EXPECT_EQ(ParseInts("--kv-heads", "6,x").status().message(),
            "--kv-heads \"6,x\" is no number, nor a list like 6,6,5,4");
  EXPECT_EQ(ParseMethod("pca").status().message(),
            "method \"pca\" is none of svd, activation, aligned, rebase");
}

}  // namespace
}  // namespace mea::convert
