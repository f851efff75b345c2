// Thousands of damaged checkpoints: every one loads or is refused with one line. Run under the
// sanitizers, this is what says that no file can make the reader touch memory that is not its own.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <string>

#include "engine/checkpoint/config_reader.h"
#include "engine/model/model_weights.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

using testing::HeadNormGain;
using testing::RandomCheckpointSpec;
using testing::TempDir;

constexpr uint64_t kDamageSeed = 7;
constexpr int kNumFiles = 2000;
constexpr int kNumConfigs = 20000;

RandomCheckpointSpec Small() {
  return {.base_model_type = "qwen3",
          .hidden_size = 8,
          .num_layers = 2,
          .q_heads = 2,
          .kv_heads = 2,
          .head_dim = 4,
          .ffn_size = 8,
          .vocab_size = 8,
          .mea = true,
          .key_heads = {2, 1},
          .value_heads = {1},
          .head_norm = HeadNormGain::kPerDim};
}

class Mutator {
 public:
  size_t Below(size_t bound) { return static_cast<size_t>(random_() % bound); }

  // Damages the first `reach` bytes of the text in one of five ways, once or a few times.
  std::string Damage(std::string text, size_t reach) {
    for (size_t round = 0; round <= Below(3); ++round) {
      reach = std::min(reach, text.size());
      if (reach == 0) return text;
      DamageOnce(Below(reach), text);
    }
    return text;
  }

 private:
  void DamageOnce(size_t at, std::string& text) {
    switch (Below(5)) {
      case 0:  // a bit
        text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
        break;
      case 1:  // a byte that means something to JSON
        text[at] = "{}[]\",:0-9.eE\\ \0"[Below(16)];
        break;
      case 2:  // everything from here on
        text.resize(at);
        break;
      case 3:  // a piece said twice
        text.insert(at, text.substr(at, Below(40)));
        break;
      case 4:
        ReplaceNumber(at, text);
        break;
    }
  }

  // The next number becomes one that is hard to bear.
  void ReplaceNumber(size_t from, std::string& text) {
    static constexpr std::array<const char*, 12> kNumbers = {"-1",
                                                             "0",
                                                             "1",
                                                             "4294967296",
                                                             "9223372036854775807",
                                                             "18446744073709551615",
                                                             "1e308",
                                                             "1e400",
                                                             "0.5",
                                                             "null",
                                                             "[]",
                                                             "\"7\""};
    const size_t first = text.find_first_of("0123456789", from);
    if (first == std::string::npos) return;
    const size_t last = std::min(text.find_first_not_of("0123456789", first), text.size());
    text.replace(first, last - first, kNumbers[Below(kNumbers.size())]);
  }

  std::mt19937_64 random_{kDamageSeed};
};

void ExpectOneLine(const absl::Status& status) {
  EXPECT_FALSE(status.message().empty());
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos) << status;
}

// Reads all that was loaded.
float Sum(const ModelWeights& weights) {
  float sum = 0;
  for (const Tensor& tensor : weights.storage) {
    const TensorView& view = tensor.view();
    for (int64_t i = 0; i < view.num_elements(); ++i) sum += view.as<float>()[i];
  }
  return sum;
}

// Opens and loads; returns whether that went well.
bool LoadsOrIsRefused(const std::filesystem::path& dir) {
  const auto checkpoint = OpenCheckpoint(dir);
  if (!checkpoint.ok()) {
    ExpectOneLine(checkpoint.status());
    return false;
  }
  const auto weights = LoadWeights(*checkpoint);
  if (!weights.ok()) {
    ExpectOneLine(weights.status());
    return false;
  }
  [[maybe_unused]] const volatile float sum = Sum(*weights);
  return true;
}

void DamageFile(const std::string& name, size_t reach, int num_shards) {
  TempDir dir;
  RandomCheckpointSpec spec = Small();
  spec.num_shards = num_shards;
  WriteRandomCheckpoint(dir.path(), spec, kDamageSeed);
  ASSERT_TRUE(LoadsOrIsRefused(dir.path()));
  const std::string original = testing::ReadText(dir.path() / name);
  Mutator mutator;
  int num_loaded = 0;
  for (int i = 0; i < kNumFiles; ++i) {
    SCOPED_TRACE(i);
    testing::WriteText(dir.path() / name, mutator.Damage(original, reach));
    num_loaded += LoadsOrIsRefused(dir.path());
  }
  EXPECT_LT(num_loaded, kNumFiles / 2) << "the damage is too mild to mean anything";
}

TEST(RobustnessTest, DamagedHeadersLoadOrAreRefused) {
  DamageFile("model.safetensors", 4096, /*num_shards=*/1);
}

TEST(RobustnessTest, DamagedHeaderLengthsLoadOrAreRefused) {
  DamageFile("model.safetensors", 8, /*num_shards=*/1);
}

TEST(RobustnessTest, DamagedIndicesLoadOrAreRefused) {
  DamageFile("model.safetensors.index.json", 4096, /*num_shards=*/2);
}

TEST(RobustnessTest, DamagedConfigurationsAreReadOrRefused) {
  const std::string original = ConfigJson(Small());
  Mutator mutator;
  int num_read = 0;
  for (int i = 0; i < kNumConfigs; ++i) {
    SCOPED_TRACE(i);
    const auto config = ParseModelConfig(mutator.Damage(original, original.size()), "config.json");
    if (!config.ok()) {
      ExpectOneLine(config.status());
      continue;
    }
    ++num_read;
    const RopeFrequencies rope =
        ComputeRopeFrequencies(config->rope, config->head_dim, config->max_position);
    for (const double frequency : rope.inv_freq) EXPECT_TRUE(std::isfinite(frequency));
    for (int layer = 0; layer < config->num_layers; ++layer) {
      EXPECT_GT(config->LayerKvSpec(layer, DType::kBf16).key_heads, 0);
    }
  }
  EXPECT_LT(num_read, kNumConfigs / 2);
}

}  // namespace
}  // namespace mea
