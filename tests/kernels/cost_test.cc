#include "kernels/cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "kernels/ops/rowwise.h"

namespace mea {
namespace {

AttentionShape Plain(int window) {
  return {.kv = {.key_heads = 2, .value_heads = 2, .head_dim = 8},
          .q_heads = 4,
          .kv_heads = 2,
          .window = window};
}

int64_t CountedPairs(const SequenceLengths& s, int64_t window) {
  int64_t pairs = 0;
  for (int64_t p = s.kv_len - s.q_len; p < s.kv_len; ++p) {
    for (int64_t t = 0; t <= p; ++t) pairs += window == 0 || p - t < window;
  }
  return pairs;
}

TEST(CostTest, AttentionCountsEveryVisiblePair) {
  for (const SequenceLengths s : {SequenceLengths{1, 1}, {1, 40}, {7, 7}, {5, 40}, {40, 40}}) {
    for (const int window : {0, 1, 3, 6, 38, 39, 100}) {
      const OpCost cost = PagedAttentionCost(Plain(window), {{s}}, DType::kF32);
      EXPECT_EQ(cost.flops, 4 * 4 * 8 * CountedPairs(s, window))
          << s.q_len << " of " << s.kv_len << " window " << window;
    }
  }
}

TEST(CostTest, InterleavedAttentionCountsEveryVisiblePairOfPseudoHeads) {
  constexpr int kPseudoHeads = 3;
  for (const SequenceLengths s : {SequenceLengths{1, 40}, {5, 40}, {40, 40}}) {
    for (const int window : {0, 6}) {
      AttentionShape shape = Plain(window);
      shape.q_heads = shape.kv_heads;
      const OpCost cost = InterleavedAttentionCost(shape, kPseudoHeads, {{s}}, DType::kF32);
      const int64_t tokens = window == 0 ? s.kv_len : std::min(s.kv_len, window + s.q_len - 1);
      const int64_t composed = tokens * 2 * kPseudoHeads * 2 * (2 + 2) * 8;
      EXPECT_EQ(cost.flops,
                composed + kPseudoHeads * kPseudoHeads * 2 * 4 * 8 * CountedPairs(s, window));
      EXPECT_EQ(cost.bytes, tokens * KvBytesPerToken(shape.kv) + s.q_len * 2 * 6 * 8 * 4);
    }
  }
}

TEST(CostTest, HalfTheComponentsMoveHalfTheCache) {
  AttentionShape twin = Plain(0);
  AttentionShape mea = Plain(0);
  mea.kv.key_heads = mea.kv.value_heads = 1;
  mea.composed = true;
  EXPECT_EQ(2 * KvBytesPerToken(mea.kv), KvBytesPerToken(twin.kv));
  const SequenceLengths none = {.q_len = 0, .kv_len = 100};
  EXPECT_EQ(PagedAttentionCost(mea, {{none}}, DType::kF32), OpCost());
}

TEST(CostTest, ComposedAttentionTakesTheCheaperForm) {
  AttentionShape shape = {.kv = {.key_heads = 4, .value_heads = 4, .head_dim = 64},
                          .q_heads = 32,
                          .kv_heads = 8,
                          .composed = true};
  const SequenceLengths decode = {.q_len = 1, .kv_len = 1000};
  // 4 * 32 * 64 for scores and values, 2 * 2 * (8 - 4) * 4 * 64 to expand what is no component.
  EXPECT_EQ(PagedAttentionCost(shape, {{decode}}, DType::kF32).flops, 1000 * (8192 + 4096));
  shape.q_heads = shape.kv_heads = 8;  // MHA: the narrow form needs no expanded heads
  EXPECT_EQ(PagedAttentionCost(shape, {{decode}}, DType::kF32).flops,
            1000 * 2 * 2 * (4 + 4 * 4) * 64);
  shape.kv.key_heads = shape.kv.value_heads = 8;  // all are components: nothing to compose
  EXPECT_EQ(PagedAttentionCost(shape, {{decode}}, DType::kF32).flops, 1000 * 4 * 8 * 64);
}

TEST(CostTest, KeyNormsAreCounted) {
  // The Qwen3 shape at half the heads: 0.508 of its twin.
  const KvSpec spec = {.key_heads = 2, .value_heads = 2, .head_dim = 128, .key_norm_heads = 4};
  EXPECT_EQ(KvBytesPerToken(spec), 1024 + 16);
}

TEST(CostTest, MatMulMovesItsWeightsOnce) {
  const OpCost cost = MatMulCost(3, 10, 20, DType::kBf16, DType::kF32);
  EXPECT_EQ(cost.bytes, 2 * 200 + 3 * 30 * 4);
  EXPECT_EQ(cost.flops, 2 * 3 * 200);
  EXPECT_EQ(cost.product_flops, cost.flops);
}

TEST(CostTest, NormsCostByTheGainsThatAreThere) {
  const Tensor rows = *Tensor::AllocateHost(std::array<int64_t, 2>{3, 10}, DType::kF32);
  const Tensor gains = *Tensor::AllocateHost(std::array<int64_t, 1>{10}, DType::kF32);
  const TensorView x = rows.view();
  const TensorView gain = gains.view();
  constexpr ActivationDTypes kDTypes;
  EXPECT_EQ(Cost(RmsNormArgs{.x = x, .out = x}, kDTypes), (OpCost{2 * 120, 0}));
  EXPECT_EQ(Cost(NormRowsArgs{.x = x, .gain = gain, .out = x}, kDTypes),
            (OpCost{2 * 120 + 40, 4 * 30}));
  EXPECT_EQ(Cost(AddRmsNormArgs{.delta = x, .residual = x, .out = x}, kDTypes),
            (OpCost{4 * 120, 30}));
  EXPECT_EQ(Cost(AddRmsNormArgs{.delta = x, .delta_gain = gain, .residual = x, .out = x}, kDTypes),
            (OpCost{4 * 120 + 40, 5 * 30}));
  EXPECT_EQ(
      Cost(AddRmsNormArgs{.delta = x, .delta_gain = gain, .residual = x, .gain = gain, .out = x},
           kDTypes),
      (OpCost{4 * 120 + 80, 9 * 30}));
}

TEST(CostTest, OnlyExpertsThatARowReachesAreRead) {
  const MoeShape shape = {.num_experts = 8, .top_k = 2, .ffn_size = 20};
  const OpCost cost = MoeCost(3, 10, shape, 5, DType::kBf16, DType::kF32);
  EXPECT_EQ(cost.bytes, 2 * (80 + 5 * 600) + 2 * 3 * 10 * 4);
  EXPECT_EQ(cost.flops, 2 * 3 * 80 + 6 * (2 * 600 + 5 * 20 + 2 * 10));
  EXPECT_EQ(cost.product_flops, 2 * 3 * 80 + 6 * 2 * 600);
  EXPECT_EQ(ExpectedExperts(shape, 1), 2);
  EXPECT_EQ(ExpectedExperts(shape, 100), 8);
  EXPECT_EQ(ExpectedExperts({.num_experts = 4, .top_k = 4}, 1), 4);
}

}  // namespace
}  // namespace mea
