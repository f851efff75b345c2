#include "engine/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/attention/variant.h"
#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

using nlohmann::json;
using testing::ConfigJson;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::RandomCheckpointSpec;

ModelConfig Parsed(const std::string& text) {
  const auto config = ParseModelConfig(text, "config.json");
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << text;
  return config.value_or(ModelConfig{});
}

// A configuration with only what every family must say, and `more`.
std::string MinimalText(const std::string& model_type, const std::string& more) {
  json config = {{"model_type", model_type},      {"hidden_size", 1024},
                 {"num_hidden_layers", 4},        {"num_attention_heads", 64},
                 {"intermediate_size", 2048},     {"vocab_size", 1000},
                 {"max_position_embeddings", 512}};
  config.update(json::parse(more));
  return config.dump();
}
ModelConfig Minimal(const std::string& model_type, const std::string& more = "{}") {
  return Parsed(MinimalText(model_type, more));
}

TEST(ConfigTest, AbsentFieldsTakeTheDefaultsOfTheFamily) {
  const ModelConfig llama = Minimal("llama");
  EXPECT_EQ(llama.kv_heads, 64);
  EXPECT_EQ(llama.head_dim, 16);
  EXPECT_FLOAT_EQ(llama.rms_norm_eps, 1e-6f);
  EXPECT_FALSE(llama.tie_word_embeddings);
  EXPECT_FALSE(llama.qkv_bias || llama.o_bias || llama.mlp_bias || llama.layers.qk_norm);
  EXPECT_EQ(llama.rope.kind, RopeKind::kDefault);
  EXPECT_EQ(llama.rope.theta, 10000.0);
  EXPECT_THAT(llama.layer_windows, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(llama.dtype, std::nullopt);
  EXPECT_EQ(llama.bos_token_id, std::nullopt);
  EXPECT_THAT(llama.eos_token_ids, IsEmpty());

  EXPECT_EQ(llama.packed, std::nullopt);

  const ModelConfig mistral = Minimal("mistral");
  EXPECT_EQ(mistral.kv_heads, 8);
  EXPECT_THAT(mistral.layer_windows, ElementsAre(4096, 4096, 4096, 4096));

  const ModelConfig qwen2 = Minimal("qwen2");
  EXPECT_EQ(qwen2.kv_heads, 32);
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.o_bias);

  const ModelConfig qwen3 = Minimal("qwen3");
  EXPECT_EQ(qwen3.kv_heads, 32);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_TRUE(qwen3.layers.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias);
}

TEST(ConfigTest, NullMeansOneKeyValueHeadPerQueryHead) {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"}) {
    EXPECT_EQ(Minimal(family, R"({"num_key_value_heads": null})").kv_heads, 64);
  }
}

TEST(ConfigTest, BiasesFollowTheFamily) {
  const std::string asked = R"({"attention_bias": true, "mlp_bias": true})";
  const ModelConfig llama = Minimal("llama", asked);
  EXPECT_TRUE(llama.qkv_bias && llama.o_bias && llama.mlp_bias);
  const ModelConfig qwen3 = Minimal("qwen3", asked);
  EXPECT_TRUE(qwen3.qkv_bias && qwen3.o_bias);
  EXPECT_FALSE(qwen3.mlp_bias);
  const ModelConfig qwen2 = Minimal("qwen2", asked);
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.o_bias || qwen2.mlp_bias);
  const ModelConfig mistral = Minimal("mistral", asked);
  EXPECT_FALSE(mistral.qkv_bias || mistral.o_bias || mistral.mlp_bias);
}

TEST(ConfigTest, WindowsFollowTheFamily) {
  EXPECT_THAT(Minimal("mistral", R"({"sliding_window": null})").layer_windows,
              ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Minimal("mistral", R"({"sliding_window": 8})").layer_windows,
              ElementsAre(8, 8, 8, 8));
  EXPECT_THAT(Minimal("llama", R"({"sliding_window": 8})").layer_windows, ElementsAre(0, 0, 0, 0));
  const std::string last_layers =
      R"({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3})";
  for (const char* family : {"qwen2", "qwen3"}) {
    EXPECT_THAT(Minimal(family, last_layers).layer_windows, ElementsAre(0, 0, 0, 8));
    EXPECT_THAT(Minimal(family, R"({"sliding_window": 8, "max_window_layers": 0})").layer_windows,
                ElementsAre(0, 0, 0, 0));
    EXPECT_THAT(Minimal(family, R"({"use_sliding_window": true, "sliding_window": 8,
                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
                                    "full_attention"]})")
                    .layer_windows,
                ElementsAre(8, 0, 8, 0));
  }
}

TEST(ConfigTest, WindowsOfFamiliesWithTwoKindsOfLayers) {
  EXPECT_THAT(Minimal("smollm3", R"({"use_sliding_window": true})").layer_windows,
              ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(
      Minimal("smollm3", R"({"use_sliding_window": true, "sliding_window": 8})").layer_windows,
      ElementsAre(0, 0, 0, 8));
  const ModelConfig gemma =
      Minimal("gemma3_text", R"({"sliding_window": 8, "sliding_window_pattern": 2})");
  EXPECT_THAT(gemma.layer_windows, ElementsAre(8, 0, 8, 0));
  EXPECT_THAT(gemma.other_rope_layers, ElementsAre(true, false, true, false));
  const ModelConfig olmo = Minimal("olmo3");
  EXPECT_THAT(olmo.layer_windows, ElementsAre(4096, 4096, 4096, 0));
  EXPECT_THAT(olmo.other_rope_layers, ElementsAre(true, true, true, false));
  EXPECT_EQ(olmo.rope.theta, 500000.0);
  for (const char* family : {"gemma3_text", "olmo3"}) {
    EXPECT_EQ(ParseModelConfig(MinimalText(family, R"({"sliding_window": null})"), "file")
                  .status()
                  .message(),
              "file: sliding_window: expected an integer, found null");
  }
}

TEST(ConfigTest, ExpertsFollowTheFamily) {
  const ModelConfig mixtral = Minimal("mixtral");
  EXPECT_EQ(mixtral.kv_heads, 8);
  EXPECT_EQ(mixtral.rope.theta, 1e6);
  EXPECT_FLOAT_EQ(mixtral.rms_norm_eps, 1e-5f);
  EXPECT_THAT(mixtral.layer_windows, ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(mixtral.sparse_layers, ElementsAre(true, true, true, true));
  EXPECT_EQ(mixtral.moe, (MoeConfig{8, 2, 2048, true}));
  EXPECT_FALSE(mixtral.layers.qk_norm);
  const ModelConfig windowed = Minimal("mixtral", R"({"sliding_window": 8, "num_local_experts": 5,
                                                      "num_experts_per_tok": 5})");
  EXPECT_THAT(windowed.layer_windows, ElementsAre(8, 8, 8, 8));
  EXPECT_EQ(windowed.moe, (MoeConfig{5, 5, 2048, true}));

  const ModelConfig qwen = Minimal("qwen3_moe");
  EXPECT_EQ(qwen.kv_heads, 4);
  EXPECT_EQ(qwen.head_dim, 16);
  EXPECT_TRUE(qwen.layers.qk_norm);
  EXPECT_THAT(qwen.layer_windows, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(qwen.num_sparse_layers(), 4);
  EXPECT_EQ(qwen.moe, (MoeConfig{128, 8, 768, false}));
  const ModelConfig told = Minimal("qwen3_moe", R"({"num_experts": 16, "num_experts_per_tok": 4,
      "moe_intermediate_size": 96, "norm_topk_prob": true, "use_sliding_window": true,
      "sliding_window": 8, "max_window_layers": 3})");
  EXPECT_EQ(told.moe, (MoeConfig{16, 4, 96, true}));
  EXPECT_THAT(told.layer_windows, ElementsAre(8, 8, 8, 8));
  EXPECT_EQ(Minimal("qwen3_moe", R"({"num_local_experts": 16})").moe.num_experts, 16);
  EXPECT_EQ(Minimal("llama", R"({"num_local_experts": 16})").num_sparse_layers(), 0);
}

TEST(ConfigTest, DenseLayersMayStandAmongSparseOnes) {
  const auto sparse = [](const char* more) { return Minimal("qwen3_moe", more).sparse_layers; };
  EXPECT_THAT(sparse(R"({"decoder_sparse_step": 2})"), ElementsAre(false, true, false, true));
  EXPECT_THAT(sparse(R"({"mlp_only_layers": [0, 2]})"), ElementsAre(false, true, false, true));
  EXPECT_THAT(sparse(R"({"mlp_only_layers": [3], "decoder_sparse_step": 2})"),
              ElementsAre(false, true, false, false));
  EXPECT_THAT(sparse(R"({"mlp_only_layers": null})"), ElementsAre(true, true, true, true));
}

TEST(ConfigTest, TokenIdsComeAloneOrAsLists) {
  const ModelConfig one = Minimal("llama", R"({"bos_token_id": 1, "eos_token_id": 2})");
  EXPECT_EQ(one.bos_token_id, 1);
  EXPECT_THAT(one.eos_token_ids, ElementsAre(2));
  EXPECT_THAT(Minimal("llama", R"({"eos_token_id": [2, 7]})").eos_token_ids, ElementsAre(2, 7));
  EXPECT_THAT(Minimal("llama", R"({"eos_token_id": null})").eos_token_ids, IsEmpty());
}

TEST(ConfigTest, BothSpellingsOfTheDtypeAreRead) {
  EXPECT_EQ(Minimal("llama", R"({"dtype": "bfloat16"})").dtype, DType::kBf16);
  EXPECT_EQ(Minimal("llama", R"({"torch_dtype": "float16"})").dtype, DType::kF16);
}

TEST(ConfigTest, RopeOfBothSpellingsIsTheSame) {
  const ModelConfig old_style = Minimal("llama", R"({"rope_theta": 500000,
      "rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                       "original_max_position_embeddings": 128}})");
  const ModelConfig new_style = Minimal("llama", R"({"rope_parameters": {"rope_theta": 500000,
      "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 128}})");
  EXPECT_EQ(old_style.rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(ComputeRopeFrequencies(old_style.rope, 16, 1024).inv_freq,
            ComputeRopeFrequencies(new_style.rope, 16, 1024).inv_freq);
}

TEST(ConfigTest, EmptyRopeObjectsMeanNothing) {
  const RopeConfig rope =
      Minimal("llama", R"({"rope_theta": 7, "rope_scaling": {}, "rope_parameters": null})").rope;
  EXPECT_EQ(rope.kind, RopeKind::kDefault);
  EXPECT_EQ(rope.theta, 7.0);
}

TEST(ConfigTest, YarnTakesItsContextFromWhereverItIsGiven) {
  const auto rope = [](const std::string& more) { return Minimal("llama", more).rope; };
  EXPECT_EQ(rope(R"({"rope_scaling": {"type": "yarn", "factor": 2}})").original_max_position, 512);
  EXPECT_EQ(rope(R"({"rope_scaling": {"type": "yarn", "factor": 2,
                     "original_max_position_embeddings": 64}})")
                .original_max_position,
            64);
  const RopeConfig outer = rope(R"({"original_max_position_embeddings": 128,
      "rope_scaling": {"type": "yarn", "original_max_position_embeddings": 64}})");
  EXPECT_EQ(outer.original_max_position, 128);
  EXPECT_EQ(outer.factor, 4.0);  // 512 / 128
}

TEST(ConfigTest, YarnStretchesTheContextBeyondWhatTheConfigurationSays) {
  const auto longest = [](const std::string& more) {
    return LongestContext(Minimal("llama", more));
  };
  EXPECT_EQ(longest("{}"), 512);
  EXPECT_EQ(longest(R"({"rope_scaling": {"type": "yarn", "factor": 4}})"), 2048);
  EXPECT_EQ(longest(R"({"rope_scaling": {"type": "yarn", "factor": 4,
                        "original_max_position_embeddings": 64}})"),
            512);
  EXPECT_EQ(longest(R"({"rope_scaling": {"type": "linear", "factor": 4}})"), 512);
}

TEST(ConfigTest, HeadCompositionMayDifferByLayer) {
  RandomCheckpointSpec spec{.num_layers = 3, .q_heads = 8, .kv_heads = 4, .mea = true};
  spec.key_heads = {4, 3, 1};
  spec.value_heads = {2};
  const ModelConfig config = Parsed(ConfigJson(spec));
  EXPECT_EQ(config.base_model_type, "llama");
  EXPECT_TRUE(config.compressed());
  EXPECT_EQ(config.layer_heads[0], (LayerHeads{4, 2, false, true}));
  EXPECT_EQ(config.layer_heads[1], (LayerHeads{3, 2, true, true}));
  EXPECT_EQ(config.layer_heads[2], (LayerHeads{1, 2, true, true}));
}

TEST(ConfigTest, FullHeadsAreNotCompressed) {
  EXPECT_FALSE(Parsed(ConfigJson({})).compressed());
  EXPECT_FALSE(Parsed(ConfigJson({.mea = true})).compressed());
}

TEST(ConfigTest, KnocksCacheWhatGroupedQueryAttentionCaches) {
  for (const char* knock : {"linear", "mlp"}) {
    const RandomCheckpointSpec spec{.base_model_type = "qwen3", .mea = true, .knock = knock};
    const ModelConfig config = Parsed(ConfigJson(spec));
    EXPECT_EQ(config.composition, "kha");
    EXPECT_EQ(AttentionOf(config).has_dense_values(), std::string(knock) == "mlp");
    EXPECT_FALSE(config.compressed());
    EXPECT_EQ(config.LayerKvSpec(0, DType::kBf16), (KvSpec{2, 2, 8, DType::kBf16, 0}));
  }
}

TEST(ConfigTest, WindowsOfPseudoHeadsRepeatOverTheLayers) {
  const RandomCheckpointSpec spec{
      .num_layers = 5, .kv_heads = 4, .mea = true, .pseudo_heads = 2, .layer_windows = {16, 8, 0}};
  const ModelConfig config = Parsed(ConfigJson(spec));
  EXPECT_EQ(config.composition, "iha");
  EXPECT_THAT(config.layer_windows, ElementsAre(16, 8, 0, 16, 8));
  EXPECT_EQ(config.layer_heads[0], (LayerHeads{4, 4}));
  EXPECT_EQ(AttentionOf(config).KindOf(config, 0).pseudo_heads, 2);
  EXPECT_EQ(config.layer_heads[2], (LayerHeads{4, 4}));
  EXPECT_EQ(AttentionOf(config).KindOf(config, 2).pseudo_heads, 0) << "an ordinary layer";
  // Component heads alone: what multi-head attention caches.
  EXPECT_EQ(config.LayerKvSpec(0, DType::kBf16), (KvSpec{4, 4, 8, DType::kBf16, 0}));
}

TEST(ConfigTest, OnlyComposedKeysUnderQkNormCacheTheirNorms) {
  RandomCheckpointSpec spec{.base_model_type = "qwen3", .q_heads = 8, .kv_heads = 4, .mea = true};
  spec.key_heads = {4, 3};
  spec.value_heads = {1};
  const ModelConfig config = Parsed(ConfigJson(spec));
  EXPECT_EQ(config.LayerKvSpec(0, DType::kF32), (KvSpec{4, 1, 8, DType::kF32, 0}));
  EXPECT_EQ(config.LayerKvSpec(1, DType::kBf16), (KvSpec{3, 1, 8, DType::kBf16, 4}));
  spec.base_model_type = "llama";
  EXPECT_EQ(Parsed(ConfigJson(spec)).LayerKvSpec(1, DType::kBf16).key_norm_heads, 0);
}

TEST(ConfigTest, EveryConfigurationOfTheGoldenModelsIsRead) {
  std::ifstream models(MEA_SOURCE_DIR "/tests/golden/random_models.jsonl");
  ASSERT_TRUE(models.is_open());
  int num_models = 0;
  for (std::string line; std::getline(models, line); ++num_models) {
    const json config = json::parse(line)["config"];
    const ModelConfig parsed = Parsed(config.dump());
    EXPECT_EQ(parsed.num_layers, config["num_hidden_layers"]);
    EXPECT_EQ(parsed.layer_heads.size(), parsed.layer_windows.size());
  }
  EXPECT_GT(num_models, 200);
}

TEST(GenerationDefaultsTest, AbsentFieldsStayAbsent) {
  const ModelConfig config = Minimal("llama", R"({"eos_token_id": [5, 6]})");
  const auto defaults = ParseGenerationDefaults("{}", "generation_config.json", config);
  ASSERT_TRUE(defaults.ok());
  EXPECT_FALSE(defaults->do_sample || defaults->temperature || defaults->top_k || defaults->top_p ||
               defaults->min_p || defaults->repetition_penalty || defaults->max_new_tokens);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(5, 6));
}

TEST(GenerationDefaultsTest, GivenFieldsAreTaken) {
  const auto defaults = ParseGenerationDefaults(
      R"({"do_sample": false, "temperature": 0.5, "top_k": 20, "top_p": 0.25, "min_p": 0.125,
          "repetition_penalty": 1.5, "max_new_tokens": 9, "eos_token_id": 3, "top_h": "ignored"})",
      "generation_config.json", Minimal("llama", R"({"eos_token_id": 5})"));
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->do_sample, false);
  EXPECT_EQ(defaults->temperature, 0.5f);
  EXPECT_EQ(defaults->top_k, 20);
  EXPECT_EQ(defaults->top_p, 0.25f);
  EXPECT_EQ(defaults->min_p, 0.125f);
  EXPECT_EQ(defaults->repetition_penalty, 1.5f);
  EXPECT_EQ(defaults->max_new_tokens, 9);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(3));
}

TEST(ConfigTest, PackedFormatsAreRead) {
  const auto packed = [](const std::string& fields) {
    return Minimal("llama", "{\"quantization_config\": {" + fields + "}}").packed;
  };
  EXPECT_EQ(packed(R"("quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": true)"),
            (PackedFormat{.group_size = 64, .zero_offset = 1}));
  EXPECT_EQ(packed(R"("quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2")"),
            (PackedFormat{.group_size = 128, .zero_offset = 0}));
  EXPECT_EQ(packed(R"("quant_method": "gptq", "bits": 4, "group_size": -1, "dynamic": null)"),
            (PackedFormat{.group_size = 0, .zero_offset = 1}));
  EXPECT_EQ(packed(R"("quant_method": "awq", "bits": 4, "version": "GEMM", "zero_point": true)"),
            (PackedFormat{.method = PackedMethod::kAwq}));
  EXPECT_EQ(packed(R"("quant_method": "awq", "w_bit": 4, "q_group_size": 32)"),
            (PackedFormat{.method = PackedMethod::kAwq, .group_size = 32}));
}

}  // namespace
}  // namespace mea
