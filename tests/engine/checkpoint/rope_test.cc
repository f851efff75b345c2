#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/config_reader.h"
#include "engine/config/config.h"

namespace mea {
namespace {

using nlohmann::json;

// tools/golden/make_rope_frequencies.py: transformers' own code run in float64.
TEST(RopeTest, FrequenciesAreThoseOfTransformers) {
  std::ifstream file(MEA_SOURCE_DIR "/tests/engine/checkpoint/data/rope_frequencies.json");
  const json cases = json::parse(file);
  ASSERT_GE(cases.size(), 16u);
  for (const json& row : cases) {
    SCOPED_TRACE(row["name"].get<std::string>());
    json text = {{"model_type", "llama"},    {"hidden_size", 64},       {"num_hidden_layers", 1},
                 {"num_attention_heads", 4}, {"intermediate_size", 64}, {"vocab_size", 16}};
    text.update(row["config"]);
    const auto config = ParseModelConfig(text.dump(), "config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    const RopeFrequencies rope =
        ComputeRopeFrequencies(config->rope, config->head_dim, config->max_position);
    const auto expected = row["inv_freq"].get<std::vector<double>>();
    ASSERT_EQ(rope.inv_freq.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      // Both sides round a power and a few products differently.
      EXPECT_NEAR(rope.inv_freq[i] / expected[i], 1.0, 1e-14) << "frequency " << i;
    }
    EXPECT_NEAR(rope.attention_factor, row["attention_factor"].get<double>(), 1e-15);
  }
}

TEST(RopeTest, AFactorOfOneChangesNothing) {
  const RopeConfig plain{.theta = 500000.0};
  for (const RopeKind kind : {RopeKind::kLinear, RopeKind::kLlama3, RopeKind::kYarn}) {
    RopeConfig rope = plain;
    rope.kind = kind;
    rope.original_max_position = 128;
    const RopeFrequencies scaled = ComputeRopeFrequencies(rope, 32, 1024);
    const RopeFrequencies unscaled = ComputeRopeFrequencies(plain, 32, 1024);
    for (int i = 0; i < 16; ++i) {
      EXPECT_NEAR(scaled.inv_freq[i] / unscaled.inv_freq[i], 1.0, 1e-15);
    }
    EXPECT_EQ(scaled.attention_factor, 1.0);
  }
}

}  // namespace
}  // namespace mea
