#include "engine/model/model_weights.h"

#include <gtest/gtest.h>

#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"
#include "tests/engine/checkpoint/weights_support.h"

namespace mea {
namespace {

// Every kind of tensor there is.
RandomCheckpointSpec Everything(DType dtype = DType::kF32) {
  return {.base_model_type = "qwen3",
          .num_layers = 3,
          .q_heads = 8,
          .kv_heads = 4,
          .attention_bias = true,
          .mea = true,
          .key_heads = {4, 3, 1},
          .value_heads = {2, 4, 1},
          .head_norm = HeadNormGain::kPerHead,
          .dtype = dtype};
}

TEST(WeightsTest, EveryVariantOfTheFamilyLoads) {
  std::vector<RandomCheckpointSpec> specs;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    specs.push_back({.dtype = dtype});
    specs.push_back(Everything(dtype));
  }
  specs.push_back({.q_heads = 4, .kv_heads = 4});  // MHA
  specs.push_back({.q_heads = 4, .kv_heads = 1});  // MQA
  specs.push_back({.tie_word_embeddings = true});
  specs.push_back({.attention_bias = true, .mlp_bias = true});
  specs.push_back({.base_model_type = "mistral", .sliding_window = 8});
  specs.push_back({.base_model_type = "qwen2", .sliding_window = 8});
  specs.push_back({.base_model_type = "qwen3"});
  specs.push_back({.base_model_type = "mixtral", .sliding_window = 8});
  specs.push_back({.base_model_type = "qwen3_moe"});
  specs.push_back({.base_model_type = "qwen3_moe",
                   .num_layers = 3,
                   .attention_bias = true,
                   .dense_layers = {0, 2},
                   .mea = true,
                   .key_heads = {1},
                   .value_heads = {1}});
  specs.push_back({.num_shards = 4});
  specs.push_back({.mea = true, .key_heads = {1}, .value_heads = {1}});
  specs.push_back({.mea = true, .write_identity_mix = false});
  specs.push_back({.mea = true, .head_norm = HeadNormGain::kPerDim});
  for (const char* knock : {"linear", "mlp"}) {
    specs.push_back({.base_model_type = "qwen3", .mea = true, .knock = knock});
  }
  specs.push_back({.kv_heads = 4, .mea = true, .pseudo_heads = 3, .layer_windows = {8, 0}});
  for (const RandomCheckpointSpec& spec : specs) {
    SCOPED_TRACE(ConfigJson(spec));
    const auto opened = Write(spec);
    EXPECT_EQ(Loaded(*opened).layers.size(), static_cast<size_t>(spec.num_layers));
  }
}

TEST(WeightsTest, ShapesFollowTheConfiguration) {
  const auto opened = Write(Everything());
  const ModelWeights weights = Loaded(*opened);
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(ShapeOf(weights.embedding), (Shape{64, 32}));
  EXPECT_EQ(ShapeOf(weights.lm_head), (Shape{64, 32}));
  EXPECT_EQ(ShapeOf(weights.final_norm), (Shape{32}));
  const LayerWeights& layer = weights.layers[1];
  EXPECT_EQ(ShapeOf(layer.q_proj), (Shape{64, 32}));
  EXPECT_EQ(ShapeOf(layer.k_proj), (Shape{24, 32}));
  EXPECT_EQ(ShapeOf(layer.v_proj), (Shape{32, 32}));
  EXPECT_EQ(ShapeOf(layer.o_proj), (Shape{32, 64}));
  EXPECT_EQ(ShapeOf(layer.k_bias), (Shape{24}));
  EXPECT_EQ(ShapeOf(layer.o_bias), (Shape{32}));
  EXPECT_EQ(ShapeOf(layer.k_norm), (Shape{8}));
  EXPECT_EQ(ShapeOf(layer.mix.key), (Shape{3, 4}));
  EXPECT_EQ(ShapeOf(layer.mix.value), (Shape{4, 4}));
  EXPECT_EQ(ShapeOf(layer.head_norm_gain), (Shape{8, 8}));
  EXPECT_EQ(ShapeOf(layer.gate_proj), (Shape{48, 32}));
  EXPECT_EQ(ShapeOf(layer.down_proj), (Shape{32, 48}));
  EXPECT_TRUE(layer.gate_bias.empty() && layer.up_bias.empty() && layer.down_bias.empty());
}

TEST(WeightsTest, EveryExpertIsAViewOfTheFile) {
  for (const bool mixtral : {false, true}) {
    RandomCheckpointSpec spec{.base_model_type = mixtral ? "mixtral" : "qwen3_moe",
                              .num_experts = 3,
                              .dtype = DType::kBf16};
    if (!mixtral) spec.dense_layers = {0};
    const auto opened = Write(spec);
    const ModelWeights weights = Loaded(*opened);
    using Shape = std::vector<int64_t>;
    EXPECT_EQ(weights.layers[0].experts.empty(), !mixtral);
    EXPECT_EQ(weights.layers[0].gate_proj.empty(), mixtral);
    const LayerWeights& layer = weights.layers[1];
    EXPECT_TRUE(layer.gate_proj.empty() && layer.up_proj.empty() && layer.down_proj.empty());
    EXPECT_EQ(ShapeOf(layer.router), (Shape{3, 32}));
    ASSERT_EQ(layer.experts.size(), 3u);
    const int64_t ffn = mixtral ? 48 : 16;
    const std::string block = mixtral ? "model.layers.1.block_sparse_moe." : "model.layers.1.mlp.";
    const auto data = [&](const std::string& name) {
      return opened->checkpoint->tensors.Find(block + name)->data();
    };
    EXPECT_EQ(layer.router.data, data("gate.weight"));
    for (int e = 0; e < 3; ++e) {
      const Expert& expert = layer.experts[e];
      EXPECT_EQ(ShapeOf(expert.gate), (Shape{ffn, 32}));
      EXPECT_EQ(ShapeOf(expert.up), (Shape{ffn, 32}));
      EXPECT_EQ(ShapeOf(expert.down), (Shape{32, ffn}));
      const std::string name = absl::StrCat("experts.", e, ".");
      EXPECT_EQ(expert.gate.data, data(name + (mixtral ? "w1.weight" : "gate_proj.weight")));
      EXPECT_EQ(expert.up.data, data(name + (mixtral ? "w3.weight" : "up_proj.weight")));
      EXPECT_EQ(expert.down.data, data(name + (mixtral ? "w2.weight" : "down_proj.weight")));
    }
    EXPECT_EQ(PlannedWeightBytes(*opened->checkpoint).value(), weights.num_bytes);
  }
}

TEST(WeightsTest, WhatIsNotThereIsAbsent) {
  const LayerWeights layer = Loaded(*Write({})).layers[0];
  EXPECT_TRUE(layer.q_bias.empty() && layer.o_bias.empty() && layer.q_norm.empty() &&
              layer.k_norm.empty() && layer.mix.key.empty() && layer.mix.value.empty() &&
              layer.head_norm_gain.empty());
}

TEST(WeightsTest, AnIdentityMixMayBeLeftOut) {
  RandomCheckpointSpec spec{.mea = true};
  spec.value_heads = {1};
  for (const bool written : {true, false}) {
    spec.write_identity_mix = written;
    const auto opened = Write(spec);
    EXPECT_EQ(opened->checkpoint->config.layer_heads[0], (LayerHeads{2, 1, written, true}));
    const ModelWeights weights = Loaded(*opened);
    EXPECT_EQ(weights.layers[0].mix.key.empty(), !written);
    EXPECT_FALSE(weights.layers[0].mix.value.empty());
  }
}

TEST(WeightsTest, MatricesStayInTheFileAndVectorsWiden) {
  const auto opened = Write(Everything(DType::kBf16));
  const ModelWeights weights = Loaded(*opened);
  const StoredTensor* stored =
      opened->checkpoint->tensors.Find("model.layers.2.mlp.up_proj.weight");
  EXPECT_EQ(weights.layers[2].up_proj.data, stored->data());
  EXPECT_EQ(weights.layers[2].up_proj.dtype, DType::kBf16);
  EXPECT_EQ(weights.layers[2].mix.key.dtype, DType::kF32);
  EXPECT_EQ(weights.layers[2].input_norm.dtype, DType::kF32);
  EXPECT_GT(weights.mapped_bytes, 0);
  EXPECT_LT(weights.mapped_bytes, weights.num_bytes);
}

TEST(WeightsTest, WeightsOutliveTheirCheckpoint) {
  auto opened = Write({});
  const std::vector<RawTensor> written = RandomTensors({}, kSeed);
  const ModelWeights weights = Loaded(*opened);
  opened.reset();
  const auto* bits = reinterpret_cast<const float*>(written[0].bytes.data());
  EXPECT_EQ(Values(weights.embedding),
            std::vector<float>(bits, bits + weights.embedding.num_elements()));
}

TEST(WeightsTest, ConversionRoundsEveryMatrixOnce) {
  for (const DType from : {DType::kF32, DType::kBf16, DType::kF16}) {
    const auto opened = Write(Everything(from));
    const std::vector<float> stored = Values(Loaded(*opened).layers[1].down_proj);
    for (const DType to : {DType::kF32, DType::kBf16, DType::kF16}) {
      const ModelWeights weights = Loaded(*opened, {.weight_dtype = to});
      const TensorView converted = weights.layers[1].down_proj;
      ASSERT_EQ(converted.dtype, to);
      EXPECT_EQ(weights.embedding.dtype, to);
      EXPECT_EQ(weights.layers[1].mix.value.dtype, DType::kF32);
      EXPECT_EQ(weights.mapped_bytes > 0, from == to);
      for (size_t i = 0; i < stored.size(); ++i) {
        const float expected = to == DType::kBf16  ? ToFloat(ToBf16(stored[i]))
                               : to == DType::kF16 ? ToFloat(ToF16(stored[i]))
                                                   : stored[i];
        ASSERT_EQ(ElementAt(converted, static_cast<int64_t>(i)), expected);
      }
    }
  }
}

TEST(WeightsTest, Int8RoundsEveryMatrixButTheRouter) {
  for (const DType from : {DType::kF32, DType::kBf16, DType::kF16}) {
    const auto opened = Write({.base_model_type = "qwen3_moe", .num_experts = 3, .dtype = from});
    const ModelWeights stored = Loaded(*opened);
    int64_t reported = 0;
    const ModelWeights weights =
        LoadWeights(*opened->checkpoint, {.weight_dtype = DType::kI8},
                    [&](std::string_view, int64_t done, int64_t total) { reported = total - done; })
            .value();
    EXPECT_EQ(reported, 0);
    EXPECT_EQ(weights.num_bytes,
              PlannedWeightBytes(*opened->checkpoint, {.weight_dtype = DType::kI8}).value());
    EXPECT_EQ(weights.layers[1].router.dtype, from);
    EXPECT_EQ(weights.layers[1].ffn_norm.dtype, DType::kF32);
    const TensorView exact = stored.layers[1].experts[2].down;
    const TensorView rounded = weights.layers[1].experts[2].down;
    ASSERT_EQ(rounded.dtype, DType::kI8);
    const int64_t k = exact.shape[1];
    for (int64_t i = 0; i < exact.shape[0]; ++i) {
      const int8_t* const row = rounded.row<int8_t>(i);
      const float scale = Int8Scale(row, k);
      for (int64_t j = 0; j < k; ++j) {
        EXPECT_NEAR(scale * row[j], ElementAt(exact, i * k + j), 0.5001f * scale);
      }
    }
  }
}

// The vocabulary's matrices are in 8 bits.
TEST(WeightsTest, Int4RoundsTheMatricesOfLayers) {
  for (const DType from : {DType::kF32, DType::kBf16}) {
    const auto opened = Write({.base_model_type = "qwen3_moe", .num_experts = 3, .dtype = from});
    const ModelWeights stored = Loaded(*opened);
    const ModelWeights weights = Loaded(*opened, {.weight_dtype = DType::kI4});
    EXPECT_EQ(weights.num_bytes,
              PlannedWeightBytes(*opened->checkpoint, {.weight_dtype = DType::kI4}).value());
    EXPECT_EQ(weights.embedding.dtype, DType::kI8);
    EXPECT_EQ(weights.lm_head.dtype, DType::kI8);
    EXPECT_EQ(weights.layers[1].router.dtype, from);
    for (const auto& [exact, rounded] :
         {std::pair(stored.layers[0].q_proj, weights.layers[0].q_proj),
          std::pair(stored.layers[1].experts[2].down, weights.layers[1].experts[2].down)}) {
      ASSERT_EQ(rounded.dtype, DType::kI4);
      const int64_t k = exact.shape[1];
      std::vector<double> row(k);
      double error = 0, size = 0;
      for (int64_t i = 0; i < exact.shape[0]; ++i) {
        WidenInt4Row(rounded, i, row.data());
        for (int64_t j = 0; j < k; ++j) {
          const double x = ElementAt(exact, i * k + j);
          error += (row[j] - x) * (row[j] - x);
          size += x * x;
        }
      }
      // Uniform numbers, a range in fifteen steps: 1 / 15 / sqrt(12) of 1 / sqrt(3).
      EXPECT_LT(std::sqrt(error / size), 2 / 15.0 / std::sqrt(12.0) * std::sqrt(3.0));
    }
  }
}

TEST(WeightsTest, OtherWeightDTypesAreRefused) {
  const auto opened = Write({});
  EXPECT_EQ(std::string(
                LoadWeights(*opened->checkpoint, {.weight_dtype = DType::kI32}).status().message()),
            "weight dtype: expected f32, bf16, f16, int8 or int4, found i32");
}

TEST(WeightsTest, ATiedHeadIsTheEmbedding) {
  const auto opened = Write({.tie_word_embeddings = true});
  const ModelWeights weights = Loaded(*opened);
  EXPECT_EQ(weights.lm_head.data, weights.embedding.data);
  EXPECT_EQ(ShapeOf(weights.lm_head), ShapeOf(weights.embedding));
}

TEST(WeightsTest, ASharedHeadNormGainIsRepeatedForEveryHead) {
  for (const HeadNormGain kind : {HeadNormGain::kPerDim, HeadNormGain::kPerHead}) {
    const RandomCheckpointSpec spec{.mea = true, .head_norm = kind};
    const auto opened = Write(spec);
    const StoredTensor* stored =
        opened->checkpoint->tensors.Find("model.layers.0.self_attn.head_norm.weight");
    const std::vector<float> written = Values(MapTensor(*stored)->view());
    const ModelWeights weights = Loaded(*opened);
    const TensorView gain = weights.layers[0].head_norm_gain;
    ASSERT_EQ(ShapeOf(gain), (std::vector<int64_t>{spec.q_heads, spec.head_dim}));
    for (int64_t i = 0; i < gain.num_elements(); ++i) {
      EXPECT_EQ(ElementAt(gain, i), written[i % written.size()]);
    }
  }
}

TEST(WeightsTest, ProgressEndsAtTheTotal) {
  const auto opened = Write(Everything());
  std::vector<std::pair<int64_t, int64_t>> reports;
  const auto weights = LoadWeights(
      *opened->checkpoint, {},
      [&](std::string_view, int64_t done, int64_t total) { reports.emplace_back(done, total); });
  ASSERT_TRUE(weights.ok());
  ASSERT_GE(reports.size(), 2u);
  EXPECT_EQ(reports.front().first, 0);
  EXPECT_EQ(reports.back().first, reports.back().second);
  EXPECT_EQ(reports.back().second, weights->num_bytes);  // all f32: nothing grows
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
}

TEST(WeightsTest, HarmlessExtrasAreAccepted) {
  const RandomCheckpointSpec spec{.tie_word_embeddings = true};
  TempDir dir;
  WriteRandomCheckpoint(dir.path(), spec, kSeed);
  std::vector<RawTensor> tensors = RandomTensors(spec, kSeed);
  const auto embedding = std::find_if(tensors.begin(), tensors.end(), [](const RawTensor& tensor) {
    return tensor.name == "model.embed_tokens.weight";
  });
  ASSERT_NE(embedding, tensors.end());
  RawTensor copy = *embedding;
  copy.name = "lm_head.weight";
  tensors.push_back(copy);
  tensors.push_back(MakeTensor("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {4},
                               std::vector<float>{1, 2, 3, 4}));
  testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors);
  const auto checkpoint = OpenCheckpoint(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(LoadWeights(*checkpoint).ok());
  EXPECT_TRUE(checkpoint->config.tie_word_embeddings);
  EXPECT_TRUE(checkpoint->warnings.empty());
}

TEST(WeightsTest, AnOutputMatrixThatDiffersFromTheEmbeddingIsNotTiedToIt) {
  const RandomCheckpointSpec spec{.tie_word_embeddings = true};
  TempDir dir;
  WriteRandomCheckpoint(dir.path(), spec, kSeed);
  std::vector<RawTensor> tensors = RandomTensors(spec, kSeed);
  const std::vector<float> ones(64 * 32, 1.0f);
  tensors.push_back(MakeTensor("lm_head.weight", DType::kF32, {64, 32}, ones));
  testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors);
  const auto checkpoint = OpenCheckpoint(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_FALSE(checkpoint->config.tie_word_embeddings);
  ASSERT_EQ(checkpoint->warnings.size(), 1u);
  EXPECT_NE(checkpoint->warnings[0].find("they are not tied"), std::string::npos);
  const ModelWeights weights = LoadWeights(*checkpoint).value();
  EXPECT_EQ(weights.lm_head.as<float>()[0], 1.0f);
}

}  // namespace
}  // namespace mea
