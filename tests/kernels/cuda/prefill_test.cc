// Chunks of more than eight queries on the CUDA back end against the reference, on the emulated
// device. Its workspace is full of NaN before each run, and so are free slots of the cache.
#include <gtest/gtest.h>

#include <bit>

#include "tests/kernels/cuda/attention_harness.h"

namespace mea::cuda {
namespace {

// Composed keys and values are rounded to BF16, softmax weights too; sums of values may cancel.
constexpr double kPrefill = 2e-2;

class PrefillTest : public ::testing::TestWithParam<PrefillKernel> {
 protected:
  static RunOptions Options() { return {.prefill_kernel = GetParam()}; }
};

TEST_P(PrefillTest, AgreesForEveryGroup) {
  for (const int head_dim : {64, 128}) {
    for (const int group : {1, 3, 16, 130}) {
      ExpectAgreement({.q_heads = 2 * group,
                       .kv_heads = 2,
                       .key_heads = 2,
                       .value_heads = 2,
                       .head_dim = head_dim,
                       .page_size = 128,
                       .sequences = {{.kv_len = 9, .q_len = 9}, {.kv_len = 90, .q_len = 20}}},
                      Options(), kBf16Weights);
    }
  }
}

TEST_P(PrefillTest, AgreesWithEveryOption) {
  for (int options = 0; options < 32; ++options) {
    const bool key_mix = (options & 1) != 0;
    const bool value_mix = (options & 2) != 0;
    ExpectAgreement({.q_heads = 6,
                     .kv_heads = 3,
                     .key_heads = key_mix ? 2 : 3,
                     .value_heads = value_mix ? 5 : 3,
                     .head_dim = std::popcount(static_cast<unsigned>(options)) % 2 == 0 ? 128 : 64,
                     .key_mix = key_mix,
                     .value_mix = value_mix,
                     .key_norms = (options & 4) != 0,
                     .head_norm = (options & 8) != 0,
                     .window = (options & 16) != 0 ? 70 : 0,
                     .page_size = 64,
                     .seed = static_cast<uint64_t>(options + 1),
                     .sequences = {{.kv_len = 20, .q_len = 20}, {.kv_len = 165, .q_len = 50}}},
                    Options(), kBf16Weights, Heads::kExpanded);
  }
}

TEST_P(PrefillTest, AgreesForChunksOfEveryLength) {
  for (const int window : {0, 1, 64, 100}) {
    ExpectAgreement({.q_heads = 4,
                     .kv_heads = 2,
                     .key_heads = 2,
                     .value_heads = 1,
                     .head_dim = 64,
                     .value_mix = true,
                     .window = window,
                     .page_size = 64,
                     .sequences = {{.kv_len = 9, .q_len = 9},
                                   {.kv_len = 64, .q_len = 64},
                                   {.kv_len = 128, .q_len = 70},
                                   {.kv_len = 129, .q_len = 65},
                                   {.kv_len = 300, .q_len = 11},
                                   {.kv_len = 200, .q_len = 140}}},
                    Options(), kBf16Weights, Heads::kExpanded);
  }
}

// So far into a sequence that rings of tiles go round several times, and pages lie anywhere.
TEST_P(PrefillTest, AgreesBehindALongPrefix) {
  for (const int head_dim : {64, 128}) {
    for (const int window : {0, 700}) {
      ExpectAgreement({.q_heads = 8,
                       .kv_heads = 2,
                       .key_heads = 1,
                       .value_heads = 2,
                       .head_dim = head_dim,
                       .key_mix = true,
                       .window = window,
                       .page_size = 64,
                       .sequences = {{.kv_len = 1500, .q_len = 50}, {.kv_len = 1155, .q_len = 9}}},
                      Options(), kBf16Weights, Heads::kExpanded);
    }
  }
}

TEST_P(PrefillTest, AgreesForAMixedBatch) {
  RunOptions options = Options();
  options.num_padded = 1;
  ExpectAgreement({.q_heads = 4,
                   .kv_heads = 2,
                   .key_heads = 1,
                   .value_heads = 2,
                   .head_dim = 128,
                   .key_mix = true,
                   .value_mix = true,
                   .page_size = 64,
                   .sequences = kMixedBatch},
                  options, kPrefill);
}

// Where the last query rows of one chunk are a chunk of their own, their bits are the same; and so
// they are when the same chunk runs again.
TEST_P(PrefillTest, ARowDoesNotDependOnItsChunk) {
  for (const int head_dim : {64, 128}) {
    const CudaAttentionData data({.q_heads = 6,
                                  .kv_heads = 2,
                                  .key_heads = 1,
                                  .value_heads = 2,
                                  .head_dim = head_dim,
                                  .key_mix = true,
                                  .window = 90,
                                  .page_size = 64,
                                  .sequences = {{.kv_len = 310, .q_len = 170}}});
    RunOptions options = Options();
    const Tensor whole = data.Run(options);
    for (const int q_len : {9, 31, 64, 169, 170}) {
      options.last_queries = q_len;
      const Tensor tail = data.Run(options);
      EXPECT_TRUE(BitwiseEqual(tail.view(), whole.view().Rows(170 - q_len, q_len))) << q_len;
    }
  }
}

// Both kernels round alike but for the order of sums.
TEST(PrefillKernelsTest, AgreeWithEachOther) {
  const CudaAttentionData data({.q_heads = 8,
                                .kv_heads = 2,
                                .key_heads = 2,
                                .value_heads = 2,
                                .head_dim = 128,
                                .page_size = 64,
                                .sequences = {{.kv_len = 400, .q_len = 100}}});
  const Tensor mma = data.Run({.prefill_kernel = PrefillKernel::kMma});
  const Tensor wgmma = data.Run({.prefill_kernel = PrefillKernel::kWgmma});
  EXPECT_FALSE(BitwiseEqual(mma.view(), wgmma.view())) << "one kernel ran twice";
  EXPECT_LE(WorstHeadError(wgmma.view(), Convert(mma, DType::kF64).view()), kBf16Weights);
}

// A device that has no wgmma takes the other kernel.
TEST(PrefillKernelsTest, OlderDevicesTakeMma) {
  const CudaAttentionData data({.q_heads = 4,
                                .kv_heads = 2,
                                .key_heads = 2,
                                .value_heads = 2,
                                .head_dim = 64,
                                .page_size = 64,
                                .sequences = {{.kv_len = 200, .q_len = 40}}});
  const Tensor mma = data.Run({.prefill_kernel = PrefillKernel::kMma});
  const Tensor older = data.Run({.prefill_kernel = PrefillKernel::kWgmma, .sm_version = 80});
  EXPECT_TRUE(BitwiseEqual(older.view(), mma.view()));
}

INSTANTIATE_TEST_SUITE_P(Kernels, PrefillTest,
                         ::testing::Values(PrefillKernel::kMma, PrefillKernel::kWgmma),
                         [](const auto& test) {
                           return test.param == PrefillKernel::kMma ? "Mma" : "Wgmma";
                         });

}  // namespace
}  // namespace mea::cuda
