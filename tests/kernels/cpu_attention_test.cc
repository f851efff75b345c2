// Attention of the CPU back end against the reference, on every instruction set of this machine.
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "tests/kernels/cpu_attention.h"

namespace mea {
namespace {

// What the reference makes of a case, computed once for all instruction sets: it takes most of the
// time. `mixes` names those that are not the case's own.
Tensor Expected(const AttentionData& data, std::string_view mixes = "") {
  struct Known {
    AttentionCase spec;
    std::string_view mixes;
    Tensor result;
  };
  static std::vector<Known> all;
  for (const Known& known : all) {
    if (known.spec == data.spec() && known.mixes == mixes) return known.result;
  }
  return all.emplace_back(data.spec(), mixes, data.Run(*CreateReferenceBackend())).result;
}

class CpuAttentionTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());

  void ExpectAgreement(const AttentionCase& c) {
    SCOPED_TRACE(::testing::Message()
                 << "q_heads " << c.q_heads << " kv_heads " << c.kv_heads << " key_heads "
                 << c.key_heads << " value_heads " << c.value_heads << " head_dim " << c.head_dim
                 << " " << KvDTypesName(c.dtype) << " page_size " << c.page_size << " seed "
                 << c.seed);
    const AttentionData data(c);
    const Tensor expected = Expected(data);
    const Tensor actual = data.Run(*backend_);
    EXPECT_LE(RelativeError(actual.view(), expected.view()), ToleranceFor(c));
  }

  double ToleranceFor(const AttentionCase& c) const {
    const bool rounds_keys = c.dtype.keys == DType::kBf16 && !c.key_bias;
    const bool rounds = MultipliesBf16(GetParam()) && c.head_dim % 16 == 0 &&
                        (rounds_keys || c.dtype.values == DType::kBf16);
    return rounds ? Tolerance::kBf16Attention : Tolerance::kAttention;
  }
};

TEST_P(CpuAttentionTest, AgreesWithTheReferenceForEveryHeadDim) {
  for (const int head_dim : {8, 16, 24, 64, 80, 96, 128, 256}) {
    for (const KvDTypes dtype : kFormats) {
      ExpectAgreement({.q_heads = 4,
                       .kv_heads = 2,
                       .key_heads = 2,
                       .value_heads = 2,
                       .head_dim = head_dim,
                       .dtype = dtype,
                       .sequences = kMixedBatch});
    }
  }
}

TEST_P(CpuAttentionTest, AgreesWithTheReferenceForComposedHeads) {
  struct Heads {
    int q_heads, kv_heads, key_heads, value_heads;
  };
  for (const Heads heads : {Heads{4, 4, 2, 2}, Heads{8, 4, 3, 1}, Heads{9, 3, 2, 3},
                            Heads{14, 14, 5, 9}, Heads{16, 2, 1, 2}, Heads{4, 4, 18, 33}}) {
    for (const int head_dim : {24, 64}) {
      for (const KvDTypes dtype : kFormats) {
        ExpectAgreement({.q_heads = heads.q_heads,
                         .kv_heads = heads.kv_heads,
                         .key_heads = heads.key_heads,
                         .value_heads = heads.value_heads,
                         .head_dim = head_dim,
                         .dtype = dtype,
                         .key_mix = true,
                         .value_mix = true,
                         .sequences = kMixedBatch});
      }
    }
  }
}

TEST_P(CpuAttentionTest, AgreesWithTheReferenceWithNormsAndWindows) {
  for (const int window : {0, 1, 17, 100}) {
    ExpectAgreement({.q_heads = 8,
                     .kv_heads = 4,
                     .key_heads = 3,
                     .value_heads = 2,
                     .head_dim = 24,
                     .dtype = DType::kBf16,
                     .key_mix = true,
                     .value_mix = true,
                     .key_norms = true,
                     .head_norm = true,
                     .window = window,
                     .sequences = kMixedBatch});
  }
}

TEST_P(CpuAttentionTest, KeysWithoutTheirBiasAgreeWithTheReference) {
  for (const int head_dim : {8, 24, 64, 128}) {
    for (const int q_heads : {3, 6}) {
      for (const int window : {0, 90}) {
        AttentionCase c = {.q_heads = q_heads,
                           .kv_heads = 3,
                           .key_heads = 3,
                           .value_heads = 3,
                           .head_dim = head_dim,
                           .dtype = head_dim == 24   ? DType::kBf16
                                    : head_dim == 64 ? DType::kI4
                                                     : DType::kI8,
                           .key_bias = true,
                           .window = window,
                           .sequences = kMixedBatch};
        ExpectAgreement(c);
        c.key_heads = c.value_heads = 2;
        c.key_mix = c.value_mix = true;
        ExpectAgreement(c);
      }
    }
  }
}

// On one thread an item has all of a sequence's heads.
TEST_P(CpuAttentionTest, ManyHeadsInAnItemAgreeWithTheReference) {
  for (const int head_dim : {24, 64}) {
    const AttentionCase c = {.q_heads = 40,
                             .kv_heads = 40,
                             .key_heads = 3,
                             .value_heads = 2,
                             .head_dim = head_dim,
                             .dtype = DType::kBf16,
                             .key_mix = true,
                             .value_mix = true,
                             .sequences = {{.kv_len = 150, .q_len = 1}}};
    const AttentionData data(c);
    const Tensor actual = data.Run(*MakeCpu(GetParam(), 1));
    EXPECT_LE(RelativeError(actual.view(), Expected(data).view()), ToleranceFor(c)) << head_dim;
  }
}

// Columns of the mixes that hold a single 1, among others that do not: heads of every second number
// are components, other ones on the side of the values.
AttentionData WithUnitColumns(const AttentionCase& c) {
  AttentionData data(c);
  int shift = 0;
  for (const TensorView& mix : {data.mix().key, data.mix().value}) {
    const int64_t components = mix.shape[0];
    for (int64_t head = shift; head < mix.shape[1]; head += 2) {
      for (int64_t i = 0; i < components; ++i) {
        mix.row<float>(i)[head] = i == (head * 3 + shift) % components ? 1.0f : 0.0f;
      }
    }
    ++shift;
  }
  return data;
}

TEST_P(CpuAttentionTest, UnitColumnsAgreeWithTheReferenceAndWithAnyCut) {
  struct Heads {
    int q_heads, kv_heads, key_heads, value_heads, head_dim;
  };
  for (const Heads heads : {Heads{14, 14, 5, 9, 64}, Heads{12, 12, 6, 6, 24}, Heads{8, 4, 3, 2, 64},
                            Heads{36, 36, 3, 4, 16}}) {
    for (const KvDTypes dtype : kFormats) {
      const AttentionCase c = {.q_heads = heads.q_heads,
                               .kv_heads = heads.kv_heads,
                               .key_heads = heads.key_heads,
                               .value_heads = heads.value_heads,
                               .head_dim = heads.head_dim,
                               .dtype = dtype,
                               .key_mix = true,
                               .value_mix = true,
                               .sequences = kMixedBatch};
      SCOPED_TRACE(::testing::Message() << heads.q_heads << " " << KvDTypesName(dtype));
      const AttentionData data = WithUnitColumns(c);
      const Tensor whole = data.Run(*backend_);
      EXPECT_LE(RelativeError(whole.view(), Expected(data, "unit columns").view()),
                ToleranceFor(c));
      EXPECT_TRUE(BitwiseEqual(data.Run(*backend_, 1).view(), whole.view()));
      EXPECT_TRUE(BitwiseEqual(data.Run(*MakeCpu(GetParam(), 3), 7).view(), whole.view()));
    }
  }
}

// Mixes of powers of two, one to a head: composed heads are numbers of the cache's format.
AttentionData WithPowersOfTwo(const AttentionCase& c) {
  AttentionData data(c);
  for (const TensorView& mix : {data.mix().key, data.mix().value}) {
    for (int64_t head = 0; head < mix.shape[1]; ++head) {
      for (int64_t i = 0; i < mix.shape[0]; ++i) {
        const float power = head % 3 == 0 ? -1.0f : head % 3 == 1 ? 0.5f : 2.0f;
        mix.row<float>(i)[head] = i == (head * 3 + 1) % mix.shape[0] ? power : 0.0f;
      }
    }
  }
  return data;
}

TEST_P(CpuAttentionTest, NothingButSoftmaxesWeightsIsRoundedWhereBf16HoldsIt) {
  if (!MultipliesBf16(GetParam())) GTEST_SKIP() << "no dot products of BF16 pairs";
  for (const int components : {2, 5, 6, 18, 33}) {
    for (const int group : {1, 3}) {
      // Of a head_dim whose square root is a power of two.
      const AttentionCase c = {.q_heads = 4 * group,
                               .kv_heads = 4,
                               .key_heads = components,
                               .value_heads = components,
                               .head_dim = 64,
                               .dtype = DType::kBf16,
                               .inputs = DType::kBf16,
                               .key_mix = true,
                               .value_mix = true,
                               .sequences = kMixedBatch};
      const AttentionData data = WithPowersOfTwo(c);
      const Tensor expected = Expected(data, "powers of two");
      EXPECT_LE(RelativeError(data.Run(*backend_).view(), expected.view()), Tolerance::kBf16Weights)
          << components << " " << group;
    }
  }
}

TEST_P(CpuAttentionTest, InterleavedHeadsAgreeWithTheReference) {
  for (const int pseudo_heads : {1, 2, 3}) {
    for (const int window : {0, 1, 17, 100}) {
      for (const int head_dim : {24, 64}) {
        AttentionCase c = Interleaved(window == 17 ? 5 : 2, pseudo_heads, head_dim, window);
        c.dtype = window == 0     ? DType::kI4
                  : window == 1   ? DType::kF32
                  : window == 100 ? DType::kI8
                                  : DType::kBf16;
        c.sequences = kMixedBatch;
        SCOPED_TRACE(::testing::Message() << "P " << pseudo_heads << " W " << window);
        ExpectAgreement(c);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuAttentionTest, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mea
