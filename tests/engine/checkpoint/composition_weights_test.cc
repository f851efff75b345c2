// Weights of knocking (KHA) and interleaved heads (IHA): folded, laid out anew, refused.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/attention/iha.h"
#include "tests/engine/checkpoint/weights_support.h"

namespace mea {
namespace {

// y = x (T W)^T, sums in double, rounded once to what the weights are stored in.
TEST(WeightsTest, LinearKnocksAreFoldedIntoTheProjections) {
  RandomCheckpointSpec spec{.attention_bias = true, .mea = true, .knock = "linear"};
  for (const DType stored : {DType::kF32, DType::kBf16}) {
    spec.dtype = stored;
    const auto opened = Write(spec);
    const auto values_of = [&](const std::string& name) {
      const StoredTensor* tensor = opened->checkpoint->tensors.Find(name);
      return Values(MapTensor(*tensor)->view());
    };
    for (const DType to : {DType::kF32, DType::kBf16, DType::kF16}) {
      const ModelWeights weights = Loaded(*opened, {.weight_dtype = to});
      const LayerWeights& layer = weights.layers[1];
      struct Folded {
        const char* letter;
        TensorView weight;
        TensorView bias;
      };
      for (const Folded& folded :
           {Folded{"q", layer.q_proj, layer.q_bias}, Folded{"k", layer.k_proj, layer.k_bias},
            Folded{"v", layer.v_proj, layer.v_bias}}) {
        const std::string prefix = "model.layers.1.self_attn.";
        const std::vector<float> t = values_of(prefix + "knock_" + folded.letter + ".weight");
        for (const bool bias : {false, true}) {
          const std::string kind = bias ? "_proj.bias" : "_proj.weight";
          const std::vector<float> w = values_of(prefix + folded.letter + kind);
          const TensorView actual = bias ? folded.bias : folded.weight;
          const int64_t in = bias ? 1 : spec.hidden_size;
          ASSERT_EQ(actual.dtype, bias ? DType::kF32 : to);
          for (int64_t i = 0; i < actual.num_elements(); ++i) {
            const int64_t head = i / in / spec.head_dim * spec.head_dim;
            double sum = 0;
            for (int64_t k = 0; k < spec.head_dim; ++k) {
              sum += double{t[i / in % spec.head_dim * spec.head_dim + k]} *
                     w[(head + k) * in + i % in];
            }
            // To half a unit in the last place: no float stands between sum and format.
            const double ulp = actual.dtype == DType::kF32    ? 0x1p-25
                               : actual.dtype == DType::kBf16 ? 0x1p-9
                                                              : 0x1p-12;
            const double exponent = std::exp2(std::floor(std::log2(std::abs(sum))) + 1);
            ASSERT_LE(std::abs(ElementAt(actual, i) - sum), ulp * exponent * (1 + 1e-9) + 0x1p-25)
                << folded.letter << kind << " " << i;
          }
        }
      }
      EXPECT_EQ(*PlannedWeightBytes(*opened->checkpoint, {.weight_dtype = to}), weights.num_bytes);
    }
  }
}

// A knock that is the identity leaves grouped-query attention.
TEST(WeightsTest, IdentityKnocksLeaveTheProjectionsAsTheyAre) {
  const RandomCheckpointSpec spec{.attention_bias = true, .mea = true, .knock = "linear"};
  TempDir dir;
  WriteRandomCheckpoint(dir.path(), spec, kSeed);
  Tensors tensors(spec);
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (const char* letter : {"q", "k", "v"}) {
      const std::string name =
          absl::StrCat("model.layers.", layer, ".self_attn.knock_", letter, ".weight");
      for (int i = 0; i < 8 * 8; ++i) tensors.Set(name, i, i % 9 == 0 ? 1.0f : 0.0f);
    }
  }
  testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors.all);
  const auto checkpoint = OpenCheckpoint(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto weights = LoadWeights(*checkpoint);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const LayerWeights& layer = weights->layers[1];
  const std::string prefix = "model.layers.1.self_attn.";
  const auto stored = [&](const std::string& name) {
    return Values(MapTensor(*checkpoint->tensors.Find(prefix + name))->view());
  };
  EXPECT_EQ(Values(layer.q_proj), stored("q_proj.weight"));
  EXPECT_EQ(Values(layer.k_proj), stored("k_proj.weight"));
  EXPECT_EQ(Values(layer.v_proj), stored("v_proj.weight"));
  EXPECT_EQ(Values(layer.v_bias), stored("v_proj.bias"));
}

TEST(WeightsTest, PseudoHeadsLieAsTheOpsWantThem) {
  const RandomCheckpointSpec spec{
      .kv_heads = 4, .mea = true, .pseudo_heads = 3, .layer_windows = {8, 0}};
  const auto opened = Write(spec);
  const auto values_of = [&](const std::string& name) {
    const std::string prefix = "model.layers.0.self_attn.";
    return Values(MapTensor(*opened->checkpoint->tensors.Find(prefix + name))->view());
  };
  const ModelWeights weights = Loaded(*opened);
  const LayerWeights& layer = weights.layers[0];
  EXPECT_TRUE(weights.layers[1].variant.empty() && weights.layers[1].mix.key.empty());
  EXPECT_EQ(Values(layer.mix.key), values_of("iha_k"));
  EXPECT_EQ(Values(layer.mix.value), values_of("iha_v"));
  EXPECT_EQ(ShapeOf(layer.mix.key), (std::vector<int64_t>{4, 12}));
  EXPECT_EQ(ShapeOf(layer.variant[IhaAttention::kCollapse]), (std::vector<int64_t>{12, 4}));
  const std::vector<float> q = values_of("iha_q");
  const std::vector<float> r = values_of("iha_collapse.weight");
  for (int m = 0; m < 4; ++m) {
    for (int j = 0; j < 4; ++j) {
      for (int p = 0; p < 3; ++p) {
        EXPECT_EQ(layer.variant[IhaAttention::kQueryMix].row<float>(m)[p * 4 + j],
                  q[(m * 4 + j) * 3 + p]);
        EXPECT_EQ(layer.variant[IhaAttention::kCollapse].row<float>(p * 4 + j)[m],
                  r[m * 12 + j * 3 + p]);
      }
    }
  }
}

TEST(WeightsTest, BrokenKnocksAndPseudoHeadsAreRefused) {
  const std::string attn = "model.layers.0.self_attn.";
  ExpectRefused({.mea = true, .knock = "linear"},
                {{[&](Tensors& t) { t.Remove(attn + "knock_q.weight"); },
                  "model.safetensors: \"model.layers.0.self_attn.knock_q.weight\": expected shape "
                  "[8, 8], found no such tensor"},
                 {[&](Tensors& t) { t.Set(attn + "knock_k.weight", 3, std::nanf("")); },
                  "model.safetensors: \"model.layers.0.self_attn.knock_k.weight\": expected finite "
                  "values in f32, found an infinity or NaN at [0, 3]"},
                 {[&](Tensors& t) {
                    t.Add(attn + "knock_v_up.weight", {8, 8});
                  },
                  "model.safetensors: \"model.layers.0.self_attn.knock_v_up.weight\": expected no "
                  "such tensor in this configuration, found F32 [8, 8]"},
                 {[&](Tensors& t) {
                    t.Add(attn + "k_hlc.weight", {2, 2});
                  },
                  "model.safetensors: \"model.layers.0.self_attn.k_hlc.weight\": expected no such "
                  "tensor in this configuration, found F32 [2, 2]"}});
  ExpectRefused({.mea = true, .knock = "mlp"},
                {{[&](Tensors& t) {
                    t[attn + "knock_v_gate.weight"].shape = {4, 16};
                  },
                  "model.safetensors: \"model.layers.0.self_attn.knock_v_gate.weight\": expected "
                  "shape [8, 8], found [4, 16]"}});
  ExpectRefused(
      {.kv_heads = 4, .mea = true, .pseudo_heads = 3, .layer_windows = {8, 0}},
      {{[&](Tensors& t) {
          t[attn + "iha_q"].shape = {4, 12};
        },
        "model.safetensors: \"model.layers.0.self_attn.iha_q\": expected shape [4, 4, 3], "
        "found [4, 12]"},
       {[&](Tensors& t) { t.Set(attn + "iha_v", 0, std::nanf("")); },
        "model.safetensors: \"model.layers.0.self_attn.iha_v\": expected finite values in "
        "f32, found an infinity or NaN at [0, 0, 0]"},
       {[&](Tensors& t) { t.Remove(attn + "iha_collapse.weight"); },
        "model.safetensors: \"model.layers.0.self_attn.iha_collapse.weight\": expected "
        "shape [4, 12], found no such tensor"},
       {[&](Tensors& t) {
          t.Add("model.layers.1.self_attn.iha_q", {4, 4, 3});
        },
        "model.safetensors: \"model.layers.1.self_attn.iha_q\": expected no such tensor "
        "in this configuration, found F32 [4, 4, 3]"}});
}

}  // namespace
}  // namespace mea
