#include "engine/bench/step_cost.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/bench/head_storage.h"
#include "engine/model/model_weights.h"
#include "tests/support/random_model.h"

namespace mea {
namespace {

using testing::MakeConfig;

constexpr StepDTypes kDTypes{.weights = DType::kBf16, .kv = DType::kBf16, .compute = DType::kBf16};

OpCost Decode(const ModelConfig& config, int batch, int context) {
  return StepCost(config, kDTypes,
                  std::vector<SequenceLengths>(batch, {.q_len = 1, .kv_len = context}), batch);
}

// Every matrix but the embedding, whose rows are looked up.
int64_t MatrixElements(const ModelConfig& config) {
  const ModelWeights weights = *MakeRandomWeights(config, DType::kBf16, 1, 1);
  int64_t elements = weights.lm_head.num_elements();
  for (const LayerWeights& w : weights.layers) {
    for (const TensorView& matrix :
         {w.q_proj, w.k_proj, w.v_proj, w.o_proj, w.gate_proj, w.up_proj, w.down_proj}) {
      elements += matrix.num_elements();
    }
  }
  return elements;
}

TEST(StepCostTest, EveryMatrixIsReadOnceWhateverTheBatch) {
  const ModelConfig config = MakeConfig({.plain = true});
  const int64_t matrices = 2 * MatrixElements(config);
  const int64_t one = Decode(config, 1, 100).bytes;
  const int64_t two = Decode(config, 2, 100).bytes;
  EXPECT_GT(one, matrices);
  // What a second sequence adds: two steps less one, the matrices counted once. (Gains too are read
  // once; there are few of them.)
  EXPECT_LT(2 * one - two - matrices, matrices / 20);
  EXPECT_GE(2 * one - two - matrices, 0);
}

TEST(StepCostTest, FlopsAreTwoForEachWeightAndRow) {
  const ModelConfig config = MakeConfig({.plain = true});
  const int64_t products = 2 * MatrixElements(config);
  EXPECT_GT(Decode(config, 3, 1).flops, 3 * products);
  EXPECT_LT(Decode(config, 3, 1).flops, 3 * products * 11 / 10);
}

TEST(StepCostTest, ExpertsAreReadWhereATokenReachesThem) {
  const ModelConfig config =
      MakeConfig({.plain = true, .num_experts = 8, .top_k = 2, .dense_first_layer = true});
  const int64_t expert = 3 * config.hidden_size * config.moe.ffn_size;
  const auto experts_read = [&](int batch) {
    ModelConfig none = config;  // the same but for the experts that are read
    none.moe.ffn_size = 0;
    return (Decode(config, batch, 1).bytes - Decode(none, batch, 1).bytes) / (2 * expert);
  };
  EXPECT_EQ(experts_read(1), 2);
  EXPECT_EQ(experts_read(2), 4);  // 3.5 on average
  EXPECT_EQ(experts_read(1000), 8);
  const int64_t flops = Decode(config, 3, 1).flops;
  ModelConfig one = config;
  one.moe.top_k = 1;
  EXPECT_EQ(flops - Decode(one, 3, 1).flops,
            3 * (2 * expert + 5 * config.moe.ffn_size + 2 * config.hidden_size));
}

TEST(StepCostTest, OneMoreCachedTokenCostsItsBytesInEveryLayer) {
  const ModelConfig mea = MakeConfig({});
  int64_t token_bytes = 0;
  for (int i = 0; i < mea.num_layers; ++i)
    token_bytes += KvBytesPerToken(mea.LayerKvSpec(i, DType::kBf16));
  EXPECT_EQ(Decode(mea, 5, 101).bytes - Decode(mea, 5, 100).bytes, 5 * token_bytes);

  const ModelConfig plain = WithStorage(mea, HeadStorage::kPlain);
  EXPECT_EQ(Decode(plain, 5, 101).bytes - Decode(plain, 5, 100).bytes, 2 * 5 * token_bytes);
}

}  // namespace
}  // namespace mea
