// config.json up to the plan of its memory, and generation_config.json.
#include <string>

#include "engine/checkpoint/config_reader.h"
#include "engine/checkpoint/generation_reader.h"
#include "engine/plan.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr char kSmallConfig[] = R"({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1,
  "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8, "vocab_size": 32,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "eos_token_id": 2})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mea::fuzz::Input input(data, size);
  const bool is_generation_config = input.Choose(2) == 1;
  const std::string text(input.Rest());
  if (is_generation_config) {
    static const mea::ModelConfig small = mea::ParseModelConfig(kSmallConfig, "small").value();
    mea::ParseGenerationDefaults(text, "generation_config.json", small).status().IgnoreError();
    return 0;
  }
  const auto config = mea::ParseModelConfig(text, "config.json");
  if (!config.ok()) {
    mea::fuzz::Require(!config.status().message().empty(), "a refusal says why");
    return 0;
  }
  mea::PlanOptions options{.memory_bytes = int64_t{1} << 40};
  mea::PlanRandomModel(*config, options).status().IgnoreError();
  return 0;
}
