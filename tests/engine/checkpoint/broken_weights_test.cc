// Tensors that a configuration does not ask for, or not like that: every refusal names file,
// tensor, and what was expected and found.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/model_weights.h"
#include "tests/engine/checkpoint/weights_support.h"

namespace mea {
namespace {

TEST(BrokenWeightsTest, MissingExtraAndMisshapenTensorsAreRefused) {
  ExpectRefused(
      {},
      {
          {[](Tensors& t) { t.Remove("model.embed_tokens.weight"); },
           "model.safetensors: \"model.embed_tokens.weight\": expected shape [64, 32], found no "
           "such "
           "tensor"},
          {[](Tensors& t) { t.Remove("lm_head.weight"); },
           "model.safetensors: \"lm_head.weight\": expected shape [64, 32], found no such tensor"},
          {[](Tensors& t) { t.Remove("model.layers.1.mlp.up_proj.weight"); },
           "model.safetensors: \"model.layers.1.mlp.up_proj.weight\": expected shape [48, 32], "
           "found no "
           "such tensor"},
          {[](Tensors& t) { t.Add("model.layers.2.input_layernorm.weight", {32}); },
           "model.safetensors: \"model.layers.2.input_layernorm.weight\": expected no such tensor "
           "in this configuration, found F32 [32]"},
          {[](Tensors& t) { t.Add("model.layers.0.self_attn.q_proj.bias", {32}); },
           "model.safetensors: \"model.layers.0.self_attn.q_proj.bias\": expected no such tensor "
           "in this configuration, found F32 [32]"},
          // Without head composition W_lc means nothing.
          {[](Tensors& t) {
             t.Add("model.layers.0.self_attn.k_hlc.weight", {2, 2});
           },
           "model.safetensors: \"model.layers.0.self_attn.k_hlc.weight\": expected no such tensor "
           "in this configuration, found F32 [2, 2]"},
          {[](Tensors& t) {
             t["model.norm.weight"].shape = {1, 32};
           },
           "model.safetensors: \"model.norm.weight\": expected shape [32], found [1, 32]"},
          {[](Tensors& t) {
             t["model.embed_tokens.weight"].shape = {32, 64};
           },
           "model.safetensors: \"model.embed_tokens.weight\": expected shape [64, 32], found [32, "
           "64]"},
          {[](Tensors& t) { t["lm_head.weight"].dtype = "I32"; },
           "model.safetensors: \"lm_head.weight\": expected dtype F32, F16 or BF16, found I32"},
          {[](Tensors& t) {
             t["model.norm.weight"].dtype = "F64";
             t["model.norm.weight"].bytes.resize(32 * 8);
           },
           "model.safetensors: \"model.norm.weight\": expected dtype F32, F16 or BF16, found F64"},
          {[](Tensors& t) { t.Set("model.norm.weight", 3, std::nanf("")); },
           "model.safetensors: \"model.norm.weight\": expected finite values in f32, found "
           "an infinity or NaN at [3]"},
      });
}

TEST(BrokenWeightsTest, BrokenHeadCompositionsAreRefused) {
  RandomCheckpointSpec spec{.base_model_type = "qwen3",
                            .q_heads = 4,
                            .kv_heads = 4,
                            .mea = true,
                            .key_heads = {3, 4},
                            .value_heads = {2},
                            .head_norm = HeadNormGain::kPerHead};
  const std::string attn = "model.layers.0.self_attn.";
  ExpectRefused(
      spec,
      {
          {[&](Tensors& t) { t.Remove(attn + "k_hlc.weight"); },
           "model.safetensors: \"model.layers.0.self_attn.k_hlc.weight\": expected shape [3, 4], "
           "found "
           "no such tensor"},
          {[&](Tensors& t) {
             t[attn + "k_hlc.weight"].shape = {4, 3};
           },
           "model.safetensors: \"model.layers.0.self_attn.k_hlc.weight\": expected shape [3, 4], "
           "found [4, 3]"},
          {[&](Tensors& t) {
             t[attn + "v_proj.weight"].shape = {32, 16};
           },
           "model.safetensors: \"model.layers.0.self_attn.v_proj.weight\": expected shape [16, "
           "32], found [32, 16]"},
          {[&](Tensors& t) { t.Set(attn + "v_hlc.weight", 0, std::nanf("")); },
           "model.safetensors: \"model.layers.0.self_attn.v_hlc.weight\": expected finite values "
           "in f32, found an infinity or NaN at [0, 0]"},
          {[&](Tensors& t) {
             t.Set(attn + "k_hlc.weight", 5, std::numeric_limits<float>::infinity());
             t.Set(attn + "k_hlc.weight", 7, -std::numeric_limits<float>::infinity());
           },
           "model.safetensors: \"model.layers.0.self_attn.k_hlc.weight\": expected finite values "
           "in f32, found an infinity or NaN at [1, 1]"},
          {[&](Tensors& t) { t.Remove(attn + "k_norm.weight"); },
           "model.safetensors: \"model.layers.0.self_attn.k_norm.weight\": expected shape [8], "
           "found no "
           "such tensor"},
          {[&](Tensors& t) { t.Remove(attn + "head_norm.weight"); },
           "model.safetensors: \"model.layers.0.self_attn.head_norm.weight\": expected shape [32], "
           "found "
           "no such tensor"},
          {[&](Tensors& t) {
             t[attn + "head_norm.weight"].shape = {4, 8};
           },
           "model.safetensors: \"model.layers.0.self_attn.head_norm.weight\": expected shape [32], "
           "found [4, 8]"},
          {[&](Tensors& t) {
             t.Add(attn + "knock_k.weight", {8, 8});
           },
           "model.safetensors: \"model.layers.0.self_attn.knock_k.weight\": expected no such "
           "tensor in this configuration, found F32 [8, 8]"},
      });
  spec.head_norm = HeadNormGain::kNone;
  ExpectRefused(spec, {{[&](Tensors& t) { t.Add(attn + "head_norm.weight", {32}); },
                        "model.safetensors: \"model.layers.0.self_attn.head_norm.weight\": "
                        "expected no such tensor in this configuration, found F32 [32]"}});
}

TEST(BrokenWeightsTest, BrokenExpertsAreRefused) {
  const std::string mlp = "model.layers.1.mlp.";
  ExpectRefused(
      {.base_model_type = "qwen3_moe", .num_experts = 3, .dense_layers = {0}},
      {
          {[&](Tensors& t) { t.Remove(mlp + "experts.2.up_proj.weight"); },
           "model.safetensors: \"model.layers.1.mlp.experts.2.up_proj.weight\": expected shape "
           "[16, 32], found no such tensor"},
          {[&](Tensors& t) {
             t.Add(mlp + "experts.3.up_proj.weight", {16, 32});
           },
           "model.safetensors: \"model.layers.1.mlp.experts.3.up_proj.weight\": expected no such "
           "tensor in this configuration, found F32 [16, 32]"},
          {[&](Tensors& t) {
             t[mlp + "gate.weight"].shape = {32, 3};
           },
           "model.safetensors: \"model.layers.1.mlp.gate.weight\": expected shape [3, 32], found "
           "[32, 3]"},
          {[&](Tensors& t) {
             t[mlp + "experts.0.down_proj.weight"].shape = {16, 32};
           },
           "model.safetensors: \"model.layers.1.mlp.experts.0.down_proj.weight\": expected shape "
           "[32, 16], found [16, 32]"},
          {[&](Tensors& t) { t[mlp + "experts.0.down_proj.weight"].dtype = "I32"; },
           "model.safetensors: \"model.layers.1.mlp.experts.0.down_proj.weight\": expected dtype "
           "F32, F16 or BF16, found I32"},
          {[&](Tensors& t) { t.Add(mlp + "gate.bias", {3}); },
           "model.safetensors: \"model.layers.1.mlp.gate.bias\": expected no such tensor in this "
           "configuration, found F32 [3]"},
          {[&](Tensors& t) { t.Remove("model.layers.0.mlp.gate_proj.weight"); },
           "model.safetensors: \"model.layers.0.mlp.gate_proj.weight\": expected shape [48, 32], "
           "found no such tensor"},
      });
  ExpectRefused(
      {.base_model_type = "mixtral"},
      {{[](Tensors& t) { t.Remove("model.layers.0.block_sparse_moe.experts.0.w3.weight"); },
        "model.safetensors: \"model.layers.0.block_sparse_moe.experts.0.w3.weight\": "
        "expected shape [48, 32], found no such tensor"}});
}

TEST(BrokenWeightsTest, ValuesBeyondTheWantedFormatAreRefused) {
  ExpectRefused({},
                {{[](Tensors& t) { t.Set("lm_head.weight", 9, 65520.0f); },
                  "model.safetensors: \"lm_head.weight\": expected finite values in f16, found 1 "
                  "beyond its range"}},
                {.weight_dtype = DType::kF16});
  ExpectRefused({},
                {{[](Tensors& t) { t.Set("lm_head.weight", 9, std::nanf("")); },
                  "model.safetensors: \"lm_head.weight\": expected finite values in int8, found "
                  "an infinity or NaN at [0, 9]"}},
                {.weight_dtype = DType::kI8});
}

// A number of every dtype that is not finite, in a matrix.
TEST(BrokenWeightsTest, AMatrixWithAnInfinityOrANaNIsRefused) {
  const std::string name = "model.embed_tokens.weight";
  const float infinity = std::numeric_limits<float>::infinity();
  for (const DType stored : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (const DType wanted : {DType::kF32, DType::kBf16}) {
      for (const float bad : {std::nanf(""), infinity, -infinity}) {
        std::vector<float> values(64 * 32, 0.5f);
        values[37 * 32 + 5] = bad;
        const std::string message =
            absl::StrCat("model.safetensors: \"", name, "\": expected finite values in ",
                         std::string(DTypeName(wanted)), ", found an infinity or NaN at [37, 5]");
        ExpectRefused({.dtype = stored},
                      {{[&](Tensors& t) {
                          t[name] = MakeTensor(name, stored, {64, 32}, values);
                        },
                        message.c_str()}},
                      {.weight_dtype = wanted});
      }
    }
  }
}

TEST(BrokenWeightsTest, MatricesAreTakenAsTheyAreWhereNobodyWantsThemChecked) {
  TempDir dir;
  const RandomCheckpointSpec spec;
  WriteRandomCheckpoint(dir.path(), spec, kSeed);
  Tensors tensors(spec);
  tensors.Set("lm_head.weight", 9, std::nanf(""));
  testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors.all);
  const auto checkpoint = OpenCheckpoint(dir.path());
  for (const std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::kBf16)}) {
    EXPECT_FALSE(LoadWeights(*checkpoint, {.weight_dtype = dtype}).ok());
    EXPECT_TRUE(LoadWeights(*checkpoint, {.weight_dtype = dtype, .check_matrices = false}).ok());
  }
}

TEST(BrokenWeightsTest, AMissingTensorOfShardsIsSoughtInTheIndex) {
  TempDir dir;
  RandomCheckpointSpec spec{.num_shards = 3};
  WriteRandomCheckpoint(dir.path(), spec, kSeed);
  Tensors tensors(spec);
  tensors.Remove("model.norm.weight");
  testing::WriteShards(dir.path(), tensors.all, 3);
  const auto checkpoint = OpenCheckpoint(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(
      std::string(LoadWeights(*checkpoint).status().message()),
      absl::StrCat(dir.path().string(),
                   "/model.safetensors.index.json: \"model.norm.weight\": expected shape [32], "
                   "found no such tensor"));
}

}  // namespace
}  // namespace mea
