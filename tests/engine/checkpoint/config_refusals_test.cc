// Broken configurations, each with the one line that answers it.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"

namespace mea {
namespace {

using nlohmann::json;

constexpr const char* kPlain = R"({
  "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "vocab_size": 64,
  "max_position_embeddings": 256})";

struct Refusal {
  const char* patch;  // RFC 7396: null removes a field
  const char* message;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

std::string Patched(const char* base, const char* patch) {
  json config = json::parse(base);
  config.merge_patch(json::parse(patch));
  return config.dump();
}

void ExpectRefused(const std::string& text, const Refusal& refusal) {
  const auto config = ParseModelConfig(text, "config.json");
  EXPECT_EQ(config.status().code(), refusal.code) << text;
  EXPECT_EQ(std::string(config.status().message()), refusal.message) << text;
}

TEST(ConfigRefusalsTest, ThePatchedConfigurationIsValidItself) {
  EXPECT_TRUE(ParseModelConfig(kPlain, "config.json").ok());
}

TEST(ConfigRefusalsTest, WhatIsNotStrictJsonIsRefused) {
  const std::string deep(40, '[');
  const std::vector<std::pair<std::string, const char*>> refusals = {
      {"", R"(config.json: expected JSON, found an error at byte 1 near "")"},
      {R"({"model_type": )",
       R"(config.json: expected JSON, found an error at byte 16 near "\"model_type\": ")"},
      {R"({"a": nan})", R"(config.json: expected JSON, found an error at byte 8 near "\"a\": na")"},
      {R"({"a": NaN})", "config.json: expected JSON, found NaN, which is no JSON, at byte 7"},
      {R"({"a": -Infinity})",
       "config.json: expected JSON, found Infinity, which is no JSON, at byte 8"},
      {R"({"a": 1e999})", R"(config.json: expected JSON, found an error at byte 11 near "1e999")"},
      {R"({"a": 1} x)", R"(config.json: expected JSON, found an error at byte 10 near "1} x")"},
      {"{\"a\": \"\xff\"}",
       R"(config.json: expected JSON, found an error at byte 8 near "\"\xff")"},
      {R"({"a": 1, "b": {"c": 1, "c": 2}})", R"(config.json: expected JSON, found name "c" twice)"},
      {R"({"model_type": "llama", "model_type": "mea"})",
       R"(config.json: expected JSON, found name "model_type" twice)"},
      {deep, "config.json: expected JSON, found nesting deeper than 32"},
      {"[1, 2]", "config.json: expected a JSON object, found [1,2]"},
      {"null", "config.json: expected a JSON object, found null"},
  };
  for (const auto& [text, message] : refusals) ExpectRefused(text, {"", message});
}

TEST(ConfigRefusalsTest, BrokenArchitecturesAreRefused) {
  const std::vector<Refusal> refusals = {
      {R"({"model_type": null})",
       "config.json: model_type: expected a string, found no such field"},
      {R"({"model_type": 7})", "config.json: model_type: expected a string, found 7"},
      {R"({"model_type": "gpt2"})",
       R"(config.json: model_type: expected one of llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma3_text, phi3, smollm3, granite, olmo2, olmo3, mea, found "gpt2")"},
      {R"({"model_type": "a\nb"})",
       R"(config.json: model_type: expected one of llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma3_text, phi3, smollm3, granite, olmo2, olmo3, mea, found "a\nb")"},
      {R"({"head_composition": {"kind": "mea"}})",
       R"(config.json: head_composition: expected no such field unless model_type is "mea", found an object)"},
      {R"({"hidden_size": null})",
       "config.json: hidden_size: expected an integer in 1..131072, found no such field"},
      {R"({"hidden_size": 0})",
       "config.json: hidden_size: expected an integer in 1..131072, found 0"},
      {R"({"hidden_size": -32})",
       "config.json: hidden_size: expected an integer in 1..131072, found -32"},
      {R"({"hidden_size": 32.5})",
       "config.json: hidden_size: expected an integer in 1..131072, found 32.5"},
      {R"({"hidden_size": "32"})",
       "config.json: hidden_size: expected an integer in 1..131072, found \"32\""},
      {R"({"hidden_size": 9223372036854775807})",
       "config.json: hidden_size: expected an integer in 1..131072, found 9223372036854775807"},
      {R"({"hidden_size": 18446744073709551615})",
       "config.json: hidden_size: expected an integer in 1..131072, found 18446744073709551615"},
      {R"({"hidden_size": 36893488147419103232})",
       "config.json: hidden_size: expected an integer in 1..131072, found 3.6893488147419103e+19"},
      {R"({"num_hidden_layers": 5000})",
       "config.json: num_hidden_layers: expected an integer in 1..4096, found 5000"},
      {R"({"num_attention_heads": true})",
       "config.json: num_attention_heads: expected an integer in 1..4096, found true"},
      {R"({"num_key_value_heads": 3})",
       "config.json: num_key_value_heads: expected a divisor of num_attention_heads 4, found 3"},
      {R"({"num_key_value_heads": 8})",
       "config.json: num_key_value_heads: expected an integer in 1..4, found 8"},
      {R"({"head_dim": 7})",
       "config.json: head_dim: expected an even number, as rotary embedding needs, found 7"},
      {R"({"head_dim": null, "hidden_size": 34})",
       "config.json: head_dim: expected an integer, since hidden_size 34 is not a multiple of "
       "num_attention_heads 4, found no such field"},
      {R"({"head_dim": null, "hidden_size": 4})",
       "config.json: head_dim: expected an even number, as rotary embedding needs, found 1"},
      {R"({"intermediate_size": []})",
       "config.json: intermediate_size: expected an integer in 1..1048576, found []"},
      {R"({"vocab_size": 1099511627776})",
       "config.json: vocab_size: expected an integer in 1..16777216, found 1099511627776"},
      {R"({"max_position_embeddings": 0})",
       "config.json: max_position_embeddings: expected an integer in 1..1073741824, found 0"},
      {R"({"rms_norm_eps": -1e-6})",
       "config.json: rms_norm_eps: expected a number in 0..1, found -1e-06"},
      {R"({"rms_norm_eps": "1e-6"})",
       "config.json: rms_norm_eps: expected a number in 0..1, found \"1e-6\""},
      {R"({"tie_word_embeddings": 1})",
       "config.json: tie_word_embeddings: expected true or false, found 1"},
      {R"({"attention_bias": "no"})",
       "config.json: attention_bias: expected true or false, found \"no\""},
      {R"({"dtype": "int4"})",
       "config.json: dtype: expected float32, bfloat16 or float16, found \"int4\""},
      {R"({"torch_dtype": "float8_e4m3fn"})",
       "config.json: torch_dtype: expected float32, bfloat16 or float16, found \"float8_e4m3fn\""},
      {R"({"bos_token_id": 64})",
       "config.json: bos_token_id: expected an integer in 0..63, found 64"},
      {R"({"eos_token_id": [2, -1]})",
       "config.json: eos_token_id[1]: expected an integer in 0..63, found -1"},
      {R"({"eos_token_id": [2, [3]]})",
       "config.json: eos_token_id[1]: expected an integer in 0..63, found [3]"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(Patched(kPlain, refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, BrokenExpertsAreRefused) {
  const std::vector<Refusal> refusals = {
      {R"({"model_type": "mixtral", "num_local_experts": 0})",
       "config.json: num_local_experts: expected an integer in 1..4096, found 0"},
      {R"({"model_type": "mixtral", "num_local_experts": "8"})",
       "config.json: num_local_experts: expected an integer in 1..4096, found \"8\""},
      {R"({"model_type": "mixtral", "num_experts_per_tok": 9})",
       "config.json: num_experts_per_tok: expected an integer in 1..8, found 9"},
      {R"({"model_type": "mixtral", "num_experts_per_tok": 0})",
       "config.json: num_experts_per_tok: expected an integer in 1..8, found 0"},
      {R"({"model_type": "mixtral", "num_local_experts": 1})",
       "config.json: num_experts_per_tok: expected at most num_local_experts 1, found 2, its "
       "default"},
      {R"({"model_type": "qwen3_moe", "num_experts": -1})",
       "config.json: num_experts: expected an integer in 1..4096, found -1"},
      {R"({"model_type": "qwen3_moe", "num_experts": 4})",
       "config.json: num_experts_per_tok: expected at most num_experts 4, found 8, its default"},
      {R"({"model_type": "qwen3_moe", "num_local_experts": 5000})",
       "config.json: num_local_experts: expected an integer in 1..4096, found 5000"},
      {R"({"model_type": "qwen3_moe", "moe_intermediate_size": 0})",
       "config.json: moe_intermediate_size: expected an integer in 1..1048576, found 0"},
      {R"({"model_type": "qwen3_moe", "norm_topk_prob": 1})",
       "config.json: norm_topk_prob: expected true or false, found 1"},
      {R"({"model_type": "qwen3_moe", "decoder_sparse_step": 0})",
       "config.json: decoder_sparse_step: expected an integer in 1..4096, found 0"},
      {R"({"model_type": "qwen3_moe", "mlp_only_layers": 1})",
       "config.json: mlp_only_layers: expected a list of layers, found 1"},
      {R"({"model_type": "qwen3_moe", "mlp_only_layers": [0, 2]})",
       "config.json: mlp_only_layers[1]: expected an integer in 0..1, found 2"},
      {R"({"model_type": "qwen3_moe", "use_sliding_window": true, "sliding_window": 8,
           "layer_types": ["full_attention", "sliding_attention"]})",
       "config.json: layer_types[0]: expected \"sliding_attention\", since sliding_window is set, "
       "found \"full_attention\""},
      {R"({"model_type": "qwen2_moe"})",
       "config.json: model_type: expected one of llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, "
       "gemma3_text, phi3, smollm3, granite, olmo2, olmo3, mea, found \"qwen2_moe\""},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(Patched(kPlain, refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, OtherMathematicsIsRefused) {
  const std::vector<Refusal> refusals = {
      {R"({"hidden_act": "gelu"})", "config.json: hidden_act: expected \"silu\", found \"gelu\""},
      {R"({"partial_rotary_factor": 0.5})",
       "config.json: partial_rotary_factor: expected nothing or 1, found 0.5"},
      {R"({"attn_logit_softcapping": 50.0})",
       "config.json: attn_logit_softcapping: expected no such field, found 50.0"},
      {R"({"final_logit_softcapping": 30.0})",
       "config.json: final_logit_softcapping: expected no such field, found 30.0"},
      {R"({"residual_multiplier": 0.22})",
       "config.json: residual_multiplier: expected nothing or 1, found 0.22"},
      {R"({"quantization_config": {"bits": 4}})",
       "config.json: quantization_config.quant_method: expected a string, found no such field"},
      {R"({"quantization_config": {"quant_method": "compressed-tensors"}})",
       "config.json: quantization_config.quant_method: expected gptq or awq, found "
       "\"compressed-tensors\""},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 8}})",
       "config.json: quantization_config.bits: expected 4, found 8"},
      {R"({"quantization_config": {"quant_method": "gptq"}})",
       "config.json: quantization_config.bits: expected an integer in 1..64, found no such field"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 16}})",
       "config.json: quantization_config.group_size: expected -1, 32, 64 or a multiple of 128, "
       "found 16"},
      {R"({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 0}})",
       "config.json: quantization_config.group_size: expected -1, 32, 64 or a multiple of 128, "
       "found 0"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4,
           "checkpoint_format": "marlin"}})",
       "config.json: quantization_config.checkpoint_format: expected \"gptq\" or \"gptq_v2\", "
       "found \"marlin\""},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "is_marlin_format": true}})",
       "config.json: quantization_config.is_marlin_format: expected false, found true"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4,
           "dynamic": {"mlp": {"bits": 8}}}})",
       "config.json: quantization_config.dynamic: expected one format for all modules, found "
       "{\"mlp\":{\"bits\":8}}"},
      {R"({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}})",
       "config.json: quantization_config.version: expected \"gemm\", found \"gemv\""},
      {R"({"quantization_config": {"quant_method": "awq", "bits": 4, "zero_point": false}})",
       "config.json: quantization_config.zero_point: expected true, found false"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "config.json: layer_types[1]: expected \"full_attention\", since no sliding window is in "
       "use, found \"sliding_attention\""},
      {R"({"model_type": "smollm3", "layer_types": ["full_attention", "sliding_attention"]})",
       "config.json: layer_types[1]: expected \"full_attention\", since no sliding window is in "
       "use, found \"sliding_attention\""},
      {R"({"layer_types": ["full_attention"]})",
       "config.json: layer_types: expected a list of num_hidden_layers = 2 names, found "
       "[\"full_attention\"]"},
      {R"({"layer_types": ["linear_attention", "full_attention"]})",
       "config.json: layer_types[0]: expected \"full_attention\" or \"sliding_attention\", found "
       "\"linear_attention\""},
      {R"({"model_type": "mistral", "sliding_window": 0})",
       "config.json: sliding_window: expected an integer in 1..1073741824, found 0"},
      {R"({"model_type": "mistral", "sliding_window": 8,
           "layer_types": ["sliding_attention", "full_attention"]})",
       "config.json: layer_types[1]: expected \"sliding_attention\", since sliding_window is set, "
       "found \"full_attention\""},
      {R"({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": -1})",
       "config.json: max_window_layers: expected an integer in 0..4096, found -1"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(Patched(kPlain, refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, BrokenRopeIsRefused) {
  const std::vector<Refusal> refusals = {
      {R"({"rope_theta": 1})",
       "config.json: rope_theta: expected a number in 1.0001..1e+15, found 1"},
      {R"({"rope_theta": "10000"})",
       "config.json: rope_theta: expected a number in 1.0001..1e+15, found \"10000\""},
      {R"({"model_type": "olmo3", "rope_theta": 10000})",
       "config.json: rope_theta: expected 500000, or rope_parameters with one for each kind of "
       "layer, found 10000"},
      {R"({"rope_scaling": [4]})", "config.json: rope_scaling: expected an object, found [4]"},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
       "config.json: rope_scaling.type: expected one of default, linear, llama3, yarn, found "
       "\"dynamic\""},
      {R"({"rope_parameters": {"rope_type": "longrope"}})",
       "config.json: rope_parameters.rope_type: expected one of default, linear, llama3, yarn, "
       "found \"longrope\""},
      {R"({"rope_parameters": {"rope_type": "linear"}})",
       "config.json: rope_parameters.factor: expected a number in 1..1e+06, found no such field"},
      {R"({"rope_parameters": {"rope_type": "linear", "factor": 0}})",
       "config.json: rope_parameters.factor: expected a number in 1..1e+06, found 0"},
      {R"({"rope_parameters": {"partial_rotary_factor": 0.25}})",
       "config.json: rope_parameters.partial_rotary_factor: expected nothing or 1, found 0.25"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
       "config.json: rope_parameters.full_attention: expected the same parameters for all layers, "
       "found an object"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                            "high_freq_factor": 4}})",
       "config.json: rope_scaling.high_freq_factor: expected more than low_freq_factor 4, found 4"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 32}})",
       "config.json: rope_scaling.beta_fast: expected at least beta_slow 32, found 1"},
      {R"({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 512}})",
       "config.json: rope_scaling.factor: expected a number, since "
       "original_max_position_embeddings exceeds the context, found no such field"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4,
                            "original_max_position_embeddings": 0}})",
       "config.json: rope_scaling.original_max_position_embeddings: expected an integer in "
       "1..1073741824, found 0"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(Patched(kPlain, refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, BrokenHeadCompositionsAreRefused) {
  const std::string mea = Patched(kPlain, R"({
    "model_type": "mea", "base_model_type": "llama",
    "head_composition": {"kind": "mea", "num_component_key_heads": 1,
                         "num_component_value_heads": [2, 1]}})");
  ASSERT_TRUE(ParseModelConfig(mea, "config.json").ok());
  const std::vector<Refusal> refusals = {
      {R"({"base_model_type": null})",
       "config.json: base_model_type: expected a string, found no such field"},
      {R"({"base_model_type": "mea"})",
       "config.json: base_model_type: expected one of llama, mistral, mixtral, qwen2, qwen3, "
       "qwen3_moe, gemma3_text, phi3, smollm3, granite, olmo2, olmo3, found \"mea\""},
      {R"({"head_composition": null})",
       "config.json: head_composition: expected an object, found no such field"},
      {R"({"head_composition": ["mea"]})",
       "config.json: head_composition: expected an object, found [\"mea\"]"},
      {R"({"head_composition": {"kind": null}})",
       "config.json: head_composition.kind: expected a string, found no such field"},
      {R"({"head_composition": {"kind": "mla"}})",
       "config.json: head_composition.kind: expected one of mea, kha, iha, found \"mla\""},
      {R"({"head_composition": {"num_components": 2}})",
       "config.json: head_composition.\"num_components\": expected only the fields kind, "
       "num_component_key_heads, num_component_value_heads, head_norm, head_norm_eps, found an "
       "unknown field"},
      {R"({"head_composition": {"num_component_key_heads": null}})",
       "config.json: head_composition.num_component_key_heads: expected an integer in 1..2 or a "
       "list of them, found no such field"},
      {R"({"head_composition": {"num_component_key_heads": 0}})",
       "config.json: head_composition.num_component_key_heads: expected an integer in 1..2, found "
       "0"},
      {R"({"head_composition": {"num_component_value_heads": [1, 3]}})",
       "config.json: head_composition.num_component_value_heads[1]: expected an integer in 1..2, "
       "found 3"},
      {R"({"head_composition": {"num_component_value_heads": [1]}})",
       "config.json: head_composition.num_component_value_heads: expected one entry per layer (2), "
       "found 1 entries"},
      {R"({"head_composition": {"num_component_value_heads": []}})",
       "config.json: head_composition.num_component_value_heads: expected one entry per layer (2), "
       "found 0 entries"},
      {R"({"head_composition": {"num_component_value_heads": [1, 1, 1]}})",
       "config.json: head_composition.num_component_value_heads: expected one entry per layer (2), "
       "found 3 entries"},
      {R"({"head_composition": {"head_norm": "layer"}})",
       "config.json: head_composition.head_norm: expected \"rms\" or \"none\", found \"layer\""},
      {R"({"head_composition": {"head_norm_eps": 2}})",
       "config.json: head_composition.head_norm_eps: expected a number in 0..1, found 2"},
  };
  for (const Refusal& refusal : refusals)
    ExpectRefused(Patched(mea.c_str(), refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, BrokenKnocksAreRefused) {
  const std::string kha = Patched(kPlain, R"({
    "model_type": "mea", "base_model_type": "qwen3",
    "head_composition": {"kind": "kha", "knock": "mlp"}})");
  ASSERT_TRUE(ParseModelConfig(kha, "config.json").ok());
  const std::vector<Refusal> refusals = {
      {R"({"head_composition": {"knock": null}})",
       "config.json: head_composition.knock: expected a string, found no such field"},
      {R"({"head_composition": {"knock": "gate"}})",
       "config.json: head_composition.knock: expected \"linear\" or \"mlp\", found \"gate\""},
      {R"({"head_composition": {"num_component_key_heads": 2}})",
       "config.json: head_composition.\"num_component_key_heads\": expected only the fields kind, "
       "knock, found an unknown field"},
  };
  for (const Refusal& refusal : refusals)
    ExpectRefused(Patched(kha.c_str(), refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, BrokenPseudoHeadsAreRefused) {
  const std::string iha = Patched(kPlain, R"({
    "model_type": "mea", "base_model_type": "llama", "num_key_value_heads": 4,
    "head_composition": {"kind": "iha", "num_pseudo_heads": 2, "layer_windows": [8, 0]}})");
  ASSERT_TRUE(ParseModelConfig(iha, "config.json").ok());
  const std::vector<Refusal> refusals = {
      {R"({"head_composition": {"num_pseudo_heads": null}})",
       "config.json: head_composition.num_pseudo_heads: expected an integer in 1..16, found no "
       "such "
       "field"},
      {R"({"head_composition": {"num_pseudo_heads": 17}})",
       "config.json: head_composition.num_pseudo_heads: expected an integer in 1..16, found 17"},
      {R"({"head_composition": {"layer_windows": null}})",
       "config.json: head_composition.layer_windows: expected 1 to 2 windows in tokens, repeated "
       "over the layers, 0 for an ordinary one, found no such field"},
      {R"({"head_composition": {"layer_windows": [8, 8, 0]}})",
       "config.json: head_composition.layer_windows: expected 1 to 2 windows in tokens, repeated "
       "over the layers, 0 for an ordinary one, found 3 entries"},
      {R"({"head_composition": {"layer_windows": [8, -1]}})",
       "config.json: head_composition.layer_windows[1]: expected an integer in 0..1073741824, "
       "found "
       "-1"},
      {R"({"head_composition": {"head_norm": "rms"}})",
       "config.json: head_composition.\"head_norm\": expected only the fields kind, "
       "num_pseudo_heads, layer_windows, found an unknown field"},
      {R"({"num_key_value_heads": 2})",
       "config.json: num_key_value_heads: expected num_attention_heads 4, since pseudo heads mix "
       "queries, keys and values alike, found 2"},
      {R"({"base_model_type": "qwen3"})",
       "config.json: base_model_type: expected a model without QK-norm, whose layers rotate alike, "
       "below interleaved heads, "
       "found \"qwen3\""},
      {R"({"base_model_type": "mistral", "sliding_window": 16})",
       "config.json: sliding_window: expected null beside head_composition.layer_windows, found "
       "16"},
  };
  for (const Refusal& refusal : refusals)
    ExpectRefused(Patched(iha.c_str(), refusal.patch), refusal);
}

TEST(ConfigRefusalsTest, CompositionsThatABaseCannotHaveAreRefused) {
  const std::string sizes = R"("hidden_size": 32, "intermediate_size": 48, "vocab_size": 64,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4)";
  const auto message = [&](const std::string& base, const std::string& composition) {
    return std::string(ParseModelConfig("{\"model_type\": \"mea\", " + sizes + ", " + base +
                                            ", \"head_composition\": {" + composition + "}}",
                                        "config.json")
                           .status()
                           .message());
  };
  const std::string knock = R"("kind": "kha", "knock": "mlp")";
  EXPECT_THAT(message(R"("base_model_type": "phi3", "partial_rotary_factor": 0.5)", knock),
              ::testing::HasSubstr("heads rotate whole"));
  EXPECT_EQ(message(R"("base_model_type": "phi3")", knock), "");
  EXPECT_THAT(message(R"("base_model_type": "olmo2")", knock),
              ::testing::HasSubstr("found \"olmo2\""));
  EXPECT_THAT(message(R"("base_model_type": "smollm3")",
                      R"("kind": "iha", "num_pseudo_heads": 2, "layer_windows": [8])"),
              ::testing::HasSubstr("whose layers rotate alike"));
  const auto mea = [&](int keys) {
    return message(R"("base_model_type": "olmo2")",
                   R"("kind": "mea", "num_component_value_heads": 2, "num_component_key_heads": )" +
                       std::to_string(keys));
  };
  EXPECT_THAT(mea(2), ::testing::HasSubstr("normalises the keys of all heads together"));
  EXPECT_EQ(mea(4), "");
}

TEST(ConfigRefusalsTest, BrokenGenerationDefaultsAreRefused) {
  const auto config = ParseModelConfig(kPlain, "config.json");
  ASSERT_TRUE(config.ok());
  const std::vector<Refusal> refusals = {
      {R"([])", "generation_config.json: expected a JSON object, found []"},
      {R"({"temperature": -0.1})",
       "generation_config.json: temperature: expected a number in 0..100, found -0.1"},
      {R"({"top_k": 1.5})",
       "generation_config.json: top_k: expected an integer in 0..2147483647, found 1.5"},
      {R"({"top_p": 1.01})",
       "generation_config.json: top_p: expected a number in 0..1, found 1.01"},
      {R"({"do_sample": "yes"})",
       "generation_config.json: do_sample: expected true or false, found \"yes\""},
      {R"({"repetition_penalty": 0})",
       "generation_config.json: repetition_penalty: expected a number in 0.01..100, found 0"},
      {R"({"max_new_tokens": 0})",
       "generation_config.json: max_new_tokens: expected an integer in 1..2147483647, found 0"},
      {R"({"eos_token_id": 64})",
       "generation_config.json: eos_token_id: expected an integer in 0..63, found 64"},
  };
  for (const Refusal& refusal : refusals) {
    const auto defaults = ParseGenerationDefaults(refusal.patch, "generation_config.json", *config);
    EXPECT_EQ(defaults.status().code(), refusal.code) << refusal.patch;
    EXPECT_EQ(std::string(defaults.status().message()), refusal.message);
  }
}

}  // namespace
}  // namespace mea
