#include "engine/checkpoint/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

using ::testing::HasSubstr;
using testing::HeadNormGain;
using ::testing::Not;
using testing::RandomCheckpointSpec;
using testing::TempDir;

std::string Inspected(const RandomCheckpointSpec& spec, const InspectOptions& options = {}) {
  TempDir dir;
  WriteRandomCheckpoint(dir.path(), spec, 1);
  const auto checkpoint = OpenCheckpoint(dir.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return InspectCheckpoint(*checkpoint, options);
}

RandomCheckpointSpec Mixed() {
  return {.base_model_type = "qwen3",
          .num_layers = 4,
          .q_heads = 8,
          .kv_heads = 4,
          .mea = true,
          .key_heads = {4, 3, 3, 4},
          .value_heads = {4, 1, 1, 4},
          .write_identity_mix = false,
          .head_norm = HeadNormGain::kPerDim,
          .dtype = DType::kBf16,
          .num_shards = 2};
}

TEST(InspectTest, TheSummaryTellsHeadsAndBytes) {
  EXPECT_EQ(Inspected(Mixed()),
            R"(architecture   mea on qwen3, 4 layers, hidden 32, ffn 48, vocabulary 64, context 256
attention      8 query heads, 4 KV heads, head_dim 8, QK-norm
rope           theta 10000
head norm      rms, eps 1e-05
parameters     45,472 (BF16 45,472)
weights        0.1 MB, 55 tensors in 2 files
layers           h'_K   h'_V   window  composed
  0                 4      4        -  none
  1..2              3      1        -  keys and values
  3                 4      4        -  none
KV cache       416 bytes per token in bf16, 512 uncompressed, ratio 0.812
)");
}

TEST(InspectTest, KnocksAndPseudoHeadsAreTold) {
  EXPECT_THAT(Inspected({.mea = true, .knock = "linear"}),
              HasSubstr("\nknock          linear, folded into q, k and v when loaded\n"));
  EXPECT_THAT(Inspected({.mea = true, .knock = "mlp"}),
              HasSubstr("\nknock          mlp of the values, before the cache\n"));
  const std::string iha = Inspected({.num_layers = 3,
                                     .kv_heads = 4,
                                     .mea = true,
                                     .pseudo_heads = 2,
                                     .layer_windows = {16, 16, 0}});
  EXPECT_THAT(iha, HasSubstr("architecture   iha on llama"));
  EXPECT_THAT(iha, HasSubstr("pseudo heads   2 for each head, not cached; they would take 640 "
                             "bytes per token\n"));
  EXPECT_THAT(iha, HasSubstr("  0..1              4      4       16  2 pseudo heads each\n"));
  EXPECT_THAT(iha, HasSubstr("KV cache       384 bytes per token in bf16"));
}

TEST(InspectTest, HalfTheHeadsAreHalfTheBytes) {
  RandomCheckpointSpec spec{.q_heads = 8, .kv_heads = 4, .mea = true};
  spec.key_heads = {3};
  spec.value_heads = {1};
  EXPECT_THAT(Inspected(spec),
              HasSubstr("128 bytes per token in bf16, 256 uncompressed, ratio 0.500\n"));
  EXPECT_THAT(Inspected(spec, {.kv_dtype = DType::kF32}),
              HasSubstr("256 bytes per token in f32, 256 uncompressed, ratio 1.000\n"));
  EXPECT_THAT(Inspected(spec, {.kv_dtype = {DType::kF32, DType::kBf16}}),
              HasSubstr("224 bytes per token in k=f32,v=bf16, 256 uncompressed, ratio 0.875\n"));
}

TEST(InspectTest, WindowsAndRopeKindsAreShown) {
  const std::string text =
      Inspected({.base_model_type = "mistral",
                 .sliding_window = 16,
                 .rope_parameters = R"({"rope_type":"yarn","factor":4,"rope_theta":1e6,
                              "original_max_position_embeddings":64})"});
  EXPECT_THAT(text, HasSubstr("  0..1              2      2       16  none\n"));
  EXPECT_THAT(text, HasSubstr("rope           yarn, factor 4 over 64, theta 1e+06\n"));
}

TEST(InspectTest, ExpertsAreToldWithTheirLayers) {
  EXPECT_THAT(Inspected({.base_model_type = "qwen3_moe",
                         .num_layers = 5,
                         .num_experts = 3,
                         .dense_layers = {0, 3},
                         .mea = true,
                         .key_heads = {1},
                         .value_heads = {1}}),
              HasSubstr("architecture   mea on qwen3_moe, 5 layers, hidden 32, ffn 48, vocabulary "
                        "64, context 256\n"
                        "attention      4 query heads, 2 KV heads, head_dim 8, QK-norm\n"
                        "experts        3 of ffn 16, 2 per token, in layers 1..2, 4\n"));
  EXPECT_THAT(Inspected({.base_model_type = "mixtral"}),
              HasSubstr("experts        4 of ffn 48, 2 per token, in layers 0..1\n"));
}

TEST(InspectTest, TensorsAreListedWhenAskedFor) {
  const std::string name = "model.layers.1.self_attn.k_hlc.weight";
  EXPECT_THAT(Inspected(Mixed()), Not(HasSubstr(name)));
  EXPECT_THAT(Inspected(Mixed(), {.tensors = true}),
              HasSubstr("  " + name +
                        "                    BF16  [3, 4]                       24 "
                        "bytes  model-00001-of-00002.safetensors\n"));
}

}  // namespace
}  // namespace mea
