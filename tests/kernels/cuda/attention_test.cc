// Paged attention of the CUDA back end against the reference, on the emulated device.
#include <gtest/gtest.h>

#include <bit>

#include "tests/kernels/cuda/attention_harness.h"

namespace mea::cuda {
namespace {

// Around the boundaries of tiles and splits.
const std::vector<AttentionCase::Sequence> kDecodeBatch = {
    {.kv_len = 300, .q_len = 1}, {.kv_len = 1, .q_len = 1},   {.kv_len = 63, .q_len = 1},
    {.kv_len = 64, .q_len = 1},  {.kv_len = 65, .q_len = 1},  {.kv_len = 129, .q_len = 1},
    {.kv_len = 256, .q_len = 1}, {.kv_len = 257, .q_len = 1}, {.kv_len = 700, .q_len = 3}};

const std::vector<AttentionCase::Sequence> kSmallBatch = {
    {.kv_len = 1, .q_len = 1}, {.kv_len = 65, .q_len = 1}, {.kv_len = 200, .q_len = 2}};

constexpr RunOptions kGeneral = {.kernel = DecodeKernel::kGeneral, .num_padded = 2};

TEST(GeneralDecodeTest, AgreesForEveryHeadDimAndPageSize) {
  for (const int head_dim : {2, 24, 64, 80, 128, 256, 512}) {
    for (const int page_size : {16, 64}) {
      ExpectAgreement({.q_heads = 3,
                       .kv_heads = 3,
                       .key_heads = 2,
                       .value_heads = 1,
                       .head_dim = head_dim,
                       .key_mix = true,
                       .value_mix = true,
                       .page_size = page_size,
                       .sequences = {{.kv_len = 70, .q_len = 1}, {.kv_len = 5, .q_len = 1}}},
                      kGeneral, kFloatWeights);
    }
  }
}

TEST(GeneralDecodeTest, AgreesWithEveryOption) {
  for (int options = 0; options < 32; ++options) {
    const bool mixes = (options & 1) != 0;
    ExpectAgreement({.q_heads = 6,
                     .kv_heads = 3,
                     .key_heads = mixes ? 2 : 3,
                     .value_heads = (options & 2) != 0 ? 4 : 3,
                     .head_dim = 64,
                     .key_mix = mixes,
                     .value_mix = (options & 2) != 0,
                     .key_norms = (options & 4) != 0,
                     .head_norm = (options & 8) != 0,
                     .window = (options & 16) != 0 ? 40 : 0,
                     .page_size = 64,
                     .seed = static_cast<uint64_t>(options + 1),
                     .sequences = kSmallBatch},
                    {.kernel = DecodeKernel::kGeneral}, kFloatWeights);
  }
}

TEST(GeneralDecodeTest, AgreesForAMixedBatch) {
  ExpectAgreement({.q_heads = 6,
                   .kv_heads = 3,
                   .key_heads = 2,
                   .value_heads = 3,
                   .head_dim = 24,
                   .key_mix = true,
                   .page_size = 16,
                   .sequences = kMixedBatch},
                  kGeneral, kFloatWeights);
}

TEST(GeneralDecodeTest, AgreesAcrossSplits) {
  for (const int window : {0, 300}) {
    ExpectAgreement({.q_heads = 2,
                     .kv_heads = 1,
                     .key_heads = 1,
                     .value_heads = 1,
                     .head_dim = 16,
                     .window = window,
                     .page_size = 64,
                     .sequences = {{.kv_len = 255, .q_len = 1},
                                   {.kv_len = 256, .q_len = 1},
                                   {.kv_len = 257, .q_len = 1},
                                   {.kv_len = 700, .q_len = 4},
                                   {.kv_len = 8192, .q_len = 1},
                                   {.kv_len = 8194, .q_len = 2}}},
                    kGeneral, kFloatWeights);
  }
}

// ---- The tensor-core kernels, each on the shapes that it takes.

class FastDecodeTest : public ::testing::TestWithParam<DecodeKernel> {
 protected:
  RunOptions Options(WeightRounding rounding = WeightRounding::kTwoBf16) const {
    return {.kernel = GetParam(), .rounding = rounding, .num_padded = 2};
  }
};

TEST_P(FastDecodeTest, AgreesForEveryCountOfHeads) {
  struct Counts {
    int q_heads, kv_heads, key_heads, value_heads;
  };
  for (const int head_dim : {64, 128}) {
    for (const Counts heads : {Counts{4, 4, 2, 2}, Counts{8, 2, 1, 2}, Counts{16, 8, 3, 5},
                               Counts{24, 8, 4, 4}, Counts{40, 8, 6, 2}, Counts{80, 16, 2, 2}}) {
      ExpectAgreement({.q_heads = heads.q_heads,
                       .kv_heads = heads.kv_heads,
                       .key_heads = heads.key_heads,
                       .value_heads = heads.value_heads,
                       .head_dim = head_dim,
                       .key_mix = true,
                       .value_mix = true,
                       .page_size = 64,
                       .sequences = kSmallBatch},
                      Options(), kFloatWeights);
    }
  }
}

TEST_P(FastDecodeTest, AgreesForPlainHeads) {
  for (const int head_dim : {64, 128}) {
    for (const int group : {1, 4, 17, 70}) {
      ExpectAgreement({.q_heads = 3 * group,
                       .kv_heads = 3,
                       .key_heads = 3,
                       .value_heads = 3,
                       .head_dim = head_dim,
                       .page_size = 128,
                       .sequences = kSmallBatch},
                      Options(), kFloatWeights);
    }
  }
}

TEST_P(FastDecodeTest, AgreesWithEveryOption) {
  for (int options = 0; options < 32; ++options) {
    const bool key_mix = (options & 1) != 0;
    const bool value_mix = (options & 2) != 0;
    ExpectAgreement({.q_heads = 8,
                     .kv_heads = 4,
                     .key_heads = key_mix ? 3 : 4,
                     .value_heads = value_mix ? 2 : 4,
                     .head_dim = std::popcount(static_cast<unsigned>(options)) % 2 == 0 ? 128 : 64,
                     .key_mix = key_mix,
                     .value_mix = value_mix,
                     .key_norms = (options & 4) != 0,
                     .head_norm = (options & 8) != 0,
                     .window = (options & 16) != 0 ? 100 : 0,
                     .page_size = 64,
                     .seed = static_cast<uint64_t>(options + 1),
                     .sequences = kSmallBatch},
                    Options(), kFloatWeights);
  }
}

TEST_P(FastDecodeTest, AgreesAroundTheBoundariesOfTilesAndSplits) {
  for (const int window : {0, 64, 190}) {
    ExpectAgreement({.q_heads = 8,
                     .kv_heads = 4,
                     .key_heads = 2,
                     .value_heads = 1,
                     .head_dim = 64,
                     .key_mix = true,
                     .value_mix = true,
                     .window = window,
                     .page_size = 64,
                     .sequences = kDecodeBatch},
                    Options(), kFloatWeights);
  }
}

TEST_P(FastDecodeTest, OneRoundingOfTheWeightsCostsLittle) {
  for (const int head_dim : {64, 128}) {
    for (const bool mixes : {false, true}) {
      ExpectAgreement({.q_heads = 8,
                       .kv_heads = 4,
                       .key_heads = mixes ? 2 : 4,
                       .value_heads = mixes ? 2 : 4,
                       .head_dim = head_dim,
                       .key_mix = mixes,
                       .value_mix = mixes,
                       .page_size = 64,
                       .sequences = kDecodeBatch},
                      Options(WeightRounding::kBf16), kBf16Weights);
    }
  }
}

// A mix of ones and zeros picks components, as plain heads do.
TEST_P(FastDecodeTest, AOneHotMixIsThePlainModel) {
  AttentionCase c = {.q_heads = 8,
                     .kv_heads = 4,
                     .key_heads = 4,
                     .value_heads = 4,
                     .head_dim = 64,
                     .page_size = 64,
                     .sequences = kDecodeBatch};
  const CudaAttentionData plain(c);
  c.key_mix = c.value_mix = true;
  const CudaAttentionData mixed(c);
  for (const TensorView& mix : {mixed.mix().key, mixed.mix().value}) {
    for (int i = 0; i < 16; ++i) mix.as<float>()[i] = i % 5 == 0 ? 1.0f : 0.0f;
  }
  const Tensor expected = plain.Expected();
  const auto actual = mixed.Run({.kernel = GetParam(), .rounding = WeightRounding::kTwoBf16});
  EXPECT_LE(WorstHeadError(actual.view(), expected.view()), kFloatWeights);
}

// How many blocks share the work, and who else is in the batch, moves no bit.
TEST_P(FastDecodeTest, ARowDoesNotDependOnItsBatch) {
  AttentionCase c = {.q_heads = 8,
                     .kv_heads = 4,
                     .key_heads = 2,
                     .value_heads = 2,
                     .head_dim = 128,
                     .key_mix = true,
                     .value_mix = true,
                     .page_size = 64,
                     .sequences = kDecodeBatch};
  const CudaAttentionData data(c);
  RunOptions options = Options(WeightRounding::kBf16);
  const Tensor expected = data.Run(options);
  for (const int num_sms : {1, 7, 40}) {
    options.num_sms = num_sms;
    EXPECT_TRUE(BitwiseEqual(data.Run(options).view(), expected.view())) << num_sms;
  }
  // So few splits at once that the batch takes several passes.
  options.max_seqs = options.num_sms = 1;
  EXPECT_TRUE(BitwiseEqual(data.Run(options).view(), expected.view()));
}

// Cut where the shares of so many blocks end, a row agrees as well; its bits may differ.
TEST_P(FastDecodeTest, AgreesWhereBlocksHaveEqualShares) {
  for (const bool mixes : {false, true}) {
    for (const int num_sms : {1, 5, 40}) {
      RunOptions options = Options();
      options.is_batch_invariant = false;
      options.num_sms = num_sms;
      ExpectAgreement({.q_heads = 8,
                       .kv_heads = 4,
                       .key_heads = mixes ? 2 : 4,
                       .value_heads = mixes ? 3 : 4,
                       .head_dim = 64,
                       .key_mix = mixes,
                       .value_mix = mixes,
                       .window = num_sms == 5 ? 190 : 0,
                       .page_size = 64,
                       .sequences = kDecodeBatch},
                      options, kFloatWeights);
    }
  }
}

// More parts of an item than blocks that share a device: as many blocks more.
TEST_P(FastDecodeTest, AgreesForMorePartsThanBlocks) {
  RunOptions options = Options();
  options.num_sms = 1;
  for (const bool is_batch_invariant : {false, true}) {
    options.is_batch_invariant = is_batch_invariant;
    ExpectAgreement({.q_heads = 10,
                     .kv_heads = 5,
                     .key_heads = 5,
                     .value_heads = 5,
                     .head_dim = 64,
                     .page_size = 64,
                     .sequences = kDecodeBatch},
                    options, kFloatWeights);
  }
}

// A step of single rows is one pass whatever the lengths.
TEST_P(FastDecodeTest, AgreesWhereSplitsAreDoubled) {
  RunOptions options = Options();
  options.num_sms = 1;  // room for 64 splits and one of each sequence
  ExpectAgreement({.q_heads = 2,
                   .kv_heads = 1,
                   .key_heads = 1,
                   .value_heads = 1,
                   .head_dim = 64,
                   .page_size = 64,
                   .sequences = {{.kv_len = 8000, .q_len = 1},
                                 {.kv_len = 7000, .q_len = 1},
                                 {.kv_len = 8192, .q_len = 1}}},
                  options, kFloatWeights);
}

// A graph made at one length serves all: the host's copy of the lengths decides nothing.
TEST_P(FastDecodeTest, ARecordedStepServesOtherLengths) {
  const CudaAttentionData data(
      {.q_heads = 8,
       .kv_heads = 4,
       .key_heads = 2,
       .value_heads = 2,
       .head_dim = 64,
       .key_mix = true,
       .value_mix = true,
       .page_size = 64,
       .sequences = {
           {.kv_len = 700, .q_len = 1}, {.kv_len = 64, .q_len = 1}, {.kv_len = 257, .q_len = 1}}});
  RunOptions options = Options();
  const Tensor expected = data.Run(options);
  options.is_recorded = true;
  EXPECT_TRUE(BitwiseEqual(data.Run(options).view(), expected.view()));
  options.is_batch_invariant = false;
  const Tensor replayed = data.Run(options);
  options.is_recorded = false;
  EXPECT_TRUE(BitwiseEqual(data.Run(options).view(), replayed.view()));
}

INSTANTIATE_TEST_SUITE_P(Kernels, FastDecodeTest,
                         ::testing::Values(DecodeKernel::kMma, DecodeKernel::kWgmma),
                         [](const auto& test) {
                           return test.param == DecodeKernel::kMma ? "Mma" : "Wgmma";
                         });

TEST(AttentionPlanTest, TheWorkspaceIsWhatTheDeviceHasUseFor) {
  const AttentionShape llama_8b = {.q_heads = 32, .kv_heads = 8, .head_dim = 128, .page_size = 64};
  const auto bytes = [&](int max_seqs, int max_context) {
    return PlanAttention({.max_rows = 2048,
                          .max_seqs = max_seqs,
                          .max_context = max_context,
                          .num_sms = 132,
                          .sm_version = 90},
                         std::span(&llama_8b, 1))
        ->workspace_bytes;
  };
  EXPECT_LT(bytes(256, 1 << 20), 160 << 20);  // 4.3 GB for the splits of 256 whole contexts
  EXPECT_LT(bytes(1, 1 << 20), 24 << 20);
  EXPECT_LT(bytes(16, 2048), 8 << 20);
}

// The queries may be columns of the projections' common buffer.
TEST(AttentionTest, RowsOfQueriesMayLieApart) {
  const CudaAttentionData data(
      {.q_heads = 4,
       .kv_heads = 2,
       .key_heads = 2,
       .value_heads = 2,
       .head_dim = 64,
       .page_size = 64,
       .sequences = {{.kv_len = 70, .q_len = 2}, {.kv_len = 30, .q_len = 20}}});
  for (const DecodeKernel kernel :
       {DecodeKernel::kGeneral, DecodeKernel::kMma, DecodeKernel::kWgmma}) {
    RunOptions options = {.kernel = kernel};
    if (kernel == DecodeKernel::kWgmma) options.prefill_kernel = PrefillKernel::kWgmma;
    const Tensor expected = data.Run(options);
    options.q_padding = 24;
    EXPECT_TRUE(BitwiseEqual(data.Run(options).view(), expected.view()));
  }
}

}  // namespace
}  // namespace mea::cuda
