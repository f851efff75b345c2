// What does not change a bit of the CPU back end's attention: chunks, pages, threads, neighbours;
// on every instruction set of this machine.
#include <gtest/gtest.h>

#include "tests/kernels/cpu_attention.h"

namespace mea {
namespace {

class CpuAttentionInvarianceTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
};

TEST_P(CpuAttentionInvarianceTest, ABiasOfKeysDoesNotDependOnChunksAndPages) {
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    AttentionCase c = {.q_heads = 8,
                       .kv_heads = 4,
                       .key_heads = 3,
                       .value_heads = 2,
                       .head_dim = 40,
                       .dtype = dtype,
                       .key_mix = true,
                       .value_mix = true,
                       .key_bias = true,
                       .sequences = {{.kv_len = 700, .q_len = 230}}};
    const Tensor whole = AttentionData(c).Run(*backend_);
    for (const int chunk : {1, 50}) {
      EXPECT_TRUE(BitwiseEqual(AttentionData(c).Run(*backend_, chunk).view(), whole.view()))
          << chunk;
    }
    for (const int page_size : {48, 128}) {
      c.page_size = page_size;
      EXPECT_TRUE(BitwiseEqual(AttentionData(c).Run(*backend_).view(), whole.view())) << page_size;
    }
  }
}

// Groups of two rows and single ones; heads that fill no whole tiles of values, and others.
const AttentionCase kComposed = {.q_heads = 8,
                                 .kv_heads = 4,
                                 .key_heads = 3,
                                 .value_heads = 2,
                                 .head_dim = 40,
                                 .dtype = DType::kBf16,
                                 .key_mix = true,
                                 .value_mix = true,
                                 .key_norms = true,
                                 .head_norm = true,
                                 .sequences = {{.kv_len = 700, .q_len = 230}}};
std::vector<AttentionCase> ComposedCases() {
  AttentionCase tiled = kComposed;
  tiled.head_dim = 48;
  AttentionCase single = tiled;
  single.q_heads = 4;
  AttentionCase apart = tiled;
  apart.dtype = {DType::kI4, DType::kI8};
  // Scales meet scores and weights where heads are not mixed.
  AttentionCase plain = kComposed;
  plain.dtype = DType::kI4;
  plain.key_heads = plain.value_heads = plain.kv_heads;
  plain.key_mix = plain.value_mix = plain.key_norms = false;
  AttentionCase plain_tiled = plain;
  plain_tiled.head_dim = 64;
  AttentionCase plain_single = plain_tiled;
  plain_single.q_heads = 4;
  return {kComposed, tiled, single, apart, plain, plain_tiled, plain_single};
}

TEST_P(CpuAttentionInvarianceTest, ChunkedPrefillEqualsWholePrefill) {
  for (const AttentionCase& c : ComposedCases()) {
    const AttentionData data(c);
    const Tensor whole = data.Run(*backend_);
    for (const int chunk : {1, 3, 7, 64}) {
      EXPECT_TRUE(BitwiseEqual(data.Run(*backend_, chunk).view(), whole.view()))
          << KvDTypesName(c.dtype) << " " << c.head_dim << " " << c.q_heads << " " << chunk;
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, ChunkedPrefillEqualsWholePrefillUnderAWindow) {
  for (AttentionCase c : ComposedCases()) {
    for (const int window : {20, 70, 600}) {
      c.window = window;
      const AttentionData data(c);
      const Tensor whole = data.Run(*backend_);
      for (const int chunk : {1, 50}) {
        EXPECT_TRUE(BitwiseEqual(data.Run(*backend_, chunk).view(), whole.view()))
            << KvDTypesName(c.dtype) << " " << c.head_dim << " " << c.q_heads << " " << window
            << " " << chunk;
      }
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, PageSizesAgree) {
  for (AttentionCase c : ComposedCases()) {
    c.sequences = kMixedBatch;
    const Tensor expected = AttentionData(c).Run(*backend_);
    for (const int page_size : {32, 48, 64, 128}) {
      c.page_size = page_size;
      EXPECT_TRUE(BitwiseEqual(AttentionData(c).Run(*backend_).view(), expected.view()))
          << KvDTypesName(c.dtype) << " " << c.head_dim << " " << c.q_heads << " " << page_size;
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, NumbersOfThreadsAgree) {
  for (AttentionCase c : ComposedCases()) {
    c.sequences = kMixedBatch;
    const AttentionData data(c);
    const Tensor expected = data.Run(*MakeCpu(GetParam(), 1));
    for (const int num_threads : {2, 5}) {
      EXPECT_TRUE(BitwiseEqual(data.Run(*MakeCpu(GetParam(), num_threads)).view(), expected.view()))
          << KvDTypesName(c.dtype) << " " << c.head_dim << " " << c.q_heads << " " << num_threads;
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, NeighboursInTheBatchChangeNothing) {
  for (AttentionCase c : ComposedCases()) {
    const Tensor alone = AttentionData(c).Run(*backend_);
    // Random() fills from the front, so the first sequence keeps its contents.
    c.sequences.push_back({.kv_len = 90, .q_len = 1});
    c.sequences.push_back({.kv_len = 1100, .q_len = 40});
    const Tensor together = AttentionData(c).Run(*backend_);
    EXPECT_TRUE(BitwiseEqual(together.view().Rows(0, alone.view().shape[0]), alone.view()));
  }
}

TEST_P(CpuAttentionInvarianceTest, OneHotMixEqualsNoMix) {
  for (const KvDTypes dtype : kFormats) {
    for (const int head_dim : {24, 64}) {
      const AttentionCase c = {.q_heads = 6,
                               .kv_heads = 3,
                               .key_heads = 3,
                               .value_heads = 3,
                               .head_dim = head_dim,
                               .dtype = dtype,
                               .sequences = kMixedBatch};
      const Tensor plain = AttentionData(c).Run(*backend_);
      AttentionCase mixed = c;
      mixed.key_mix = mixed.value_mix = true;
      AttentionData data(mixed);
      for (const TensorView& mix : {data.mix().key, data.mix().value}) {
        for (int i = 0; i < 9; ++i) mix.as<float>()[i] = i % 4 == 0 ? 1.0f : 0.0f;
      }
      EXPECT_TRUE(BitwiseEqual(data.Run(*backend_).view(), plain.view())) << head_dim;
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, ChunkedPrefillEqualsWholePrefillOfInterleavedHeads) {
  for (const int window : {0, 20, 600}) {
    for (const int head_dim : {40, 48}) {
      AttentionCase c = Interleaved(3, 2, head_dim, window);
      c.sequences = {{.kv_len = 700, .q_len = 230}};
      const AttentionData data(c);
      const Tensor whole = data.Run(*backend_);
      for (const int chunk : {1, 3, 64}) {
        EXPECT_TRUE(BitwiseEqual(data.Run(*backend_, chunk).view(), whole.view()))
            << window << " " << head_dim << " " << chunk;
      }
    }
  }
}

TEST_P(CpuAttentionInvarianceTest, InterleavedHeadsDependOnNeitherPagesNorThreads) {
  for (const int head_dim : {40, 48}) {
    AttentionCase c = Interleaved(3, 2, head_dim, 90);
    c.sequences = kMixedBatch;
    const Tensor expected = AttentionData(c).Run(*MakeCpu(GetParam(), 1));
    for (const int num_threads : {2, 5}) {
      c.page_size = num_threads == 2 ? 32 : 128;
      const Tensor actual = AttentionData(c).Run(*MakeCpu(GetParam(), num_threads));
      EXPECT_TRUE(BitwiseEqual(actual.view(), expected.view())) << num_threads;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuAttentionInvarianceTest, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mea
