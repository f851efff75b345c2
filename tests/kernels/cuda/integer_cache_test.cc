// A cache of integers: what is appended, and what attention makes of it, against the reference with
// the same formats.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <random>

#include "kernels/cuda/attention/integer_slab.h"
#include "kernels/int4_heads.h"
#include "kernels/int8_rows.h"
#include "tests/kernels/attention_case.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/op_support.h"
#include "tests/kernels/staged_backend.h"

namespace mea {
namespace {

// Relative Frobenius error against the reference: weights, rotated queries and results are rounded
// to BF16.
constexpr double kTolerance = 5e-3;

constexpr DType kI8 = DType::kI8;
constexpr DType kI4 = DType::kI4;
constexpr DType kBf16 = DType::kBf16;

struct Formats {
  const char* name;
  KvDTypes dtype;
};
void PrintTo(const Formats& formats, std::ostream* out) { *out << formats.name; }

class IntegerCacheTest : public ::testing::TestWithParam<Formats> {
 protected:
  void SetUp() override {
    if (MakeCuda() == nullptr) GTEST_SKIP() << "no CUDA device here";
  }

  Tensor RunOnCuda(const AttentionData& data, const CudaOptions& options = kTestedCuda) const {
    const AttentionCase& c = data.spec();
    const std::unique_ptr<Backend> cuda = MakeCuda(options);
    int num_tokens = 0;
    int longest = 0;
    for (const auto& sequence : c.sequences) {
      num_tokens += sequence.kv_len;
      longest = std::max(longest, sequence.kv_len);
    }
    EXPECT_TRUE(cuda->Prepare({.max_rows = num_tokens,
                               .max_seqs = static_cast<int>(c.sequences.size()),
                               .max_context = longest,
                               .max_logit_rows = 1,
                               .page_size = c.page_size,
                               .hidden_size = 64,
                               .vocab_size = 64,
                               .attention = {{.q_heads = c.q_heads,
                                              .kv_heads = c.kv_heads * std::max(1, c.pseudo_heads),
                                              .head_dim = c.head_dim,
                                              .window = c.window,
                                              .is_composed = c.key_mix || c.pseudo_heads > 0,
                                              .pseudo_heads = c.pseudo_heads,
                                              .kv_dtype = c.dtype}}})
                    .ok());
    return data.Run(*MakeStaged(cuda.get()));
  }
};

int Pick(std::mt19937_64& random, std::initializer_list<int> from) {
  return from.begin()[random() % from.size()];
}

// Rows that decode, short chunks and long ones in one batch.
AttentionCase RandomCase(KvDTypes dtype, uint64_t seed) {
  std::mt19937_64 random(seed);
  AttentionCase c{.kv_heads = Pick(random, {1, 2, 4, 6}),
                  .head_dim = Pick(random, {64, 128, 64, 128, 80, 96, 256, 24}),
                  .dtype = dtype,
                  .inputs = kBf16,
                  .head_norm = random() % 2 == 0,
                  .window = Pick(random, {0, 0, 40}),
                  .page_size = Pick(random, {64, 128}),
                  .seed = seed};
  c.q_heads = c.kv_heads * Pick(random, {1, 3, 8});
  c.key_heads = c.value_heads = c.kv_heads;
  if (random() % 2 == 0) {
    c.key_heads = Pick(random, {1, 2, 3});
    c.value_heads = Pick(random, {1, 2, 3});
    c.key_mix = c.value_mix = true;
    c.key_norms = random() % 2 == 0;
  }
  for (const int q_len : {1, Pick(random, {1, 5}), Pick(random, {1, 30})}) {
    c.sequences.push_back({.kv_len = q_len + static_cast<int>(random() % 300), .q_len = q_len});
  }
  return c;
}

std::string Describe(const AttentionCase& c) {
  return ::testing::PrintToString(c.seed) + ": H " + std::to_string(c.q_heads) + " h " +
         std::to_string(c.kv_heads) + " h'K " + std::to_string(c.key_heads) + " h'V " +
         std::to_string(c.value_heads) + " d " + std::to_string(c.head_dim) + " window " +
         std::to_string(c.window) + (c.key_norms ? " norms" : "");
}

TEST_P(IntegerCacheTest, AttentionAgreesWithTheReference) {
  const auto reference = CreateReferenceBackend();
  CudaOptions general = kTestedCuda;
  general.decode_kernel = CudaDecodeKernel::kGeneral;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const AttentionCase c = RandomCase(GetParam().dtype, seed);
    SCOPED_TRACE("seed " + Describe(c));
    const AttentionData data(c);
    const Tensor expected = data.Run(*reference);
    EXPECT_LE(RelativeError(RunOnCuda(data).view(), expected.view()), kTolerance);
    if (seed % 4 != 0) continue;
    EXPECT_LE(RelativeError(RunOnCuda(data, general).view(), expected.view()), kTolerance);
  }
}

TEST_P(IntegerCacheTest, InterleavedAttentionAgreesWithTheReference) {
  const auto reference = CreateReferenceBackend();
  for (const int head_dim : {24, 64, 80}) {
    const AttentionData data(
        {.q_heads = 6,
         .kv_heads = 3,
         .key_heads = 3,
         .value_heads = 3,
         .head_dim = head_dim,
         .dtype = GetParam().dtype,
         .inputs = kBf16,
         .pseudo_heads = 2,
         .page_size = 64,
         .sequences = {{.kv_len = 70, .q_len = 1}, {.kv_len = 40, .q_len = 9}}});
    EXPECT_LE(RelativeError(RunOnCuda(data).view(), data.Run(*reference).view()), kTolerance)
        << head_dim;
  }
}

// More heads than one product has rows, and more than one block takes.
TEST_P(IntegerCacheTest, AgreesForEveryCountOfHeads) {
  const auto reference = CreateReferenceBackend();
  for (const int head_dim : {64, 128}) {
    for (const int q_heads : {16, 24, 40, 80}) {
      const AttentionData data({.q_heads = q_heads,
                                .kv_heads = 8,
                                .key_heads = 3,
                                .value_heads = 2,
                                .head_dim = head_dim,
                                .dtype = GetParam().dtype,
                                .inputs = kBf16,
                                .key_mix = true,
                                .value_mix = true,
                                .page_size = 64,
                                .sequences = {{.kv_len = 1, .q_len = 1},
                                              {.kv_len = 63, .q_len = 1},
                                              {.kv_len = 129, .q_len = 2},
                                              {.kv_len = 340, .q_len = 1}}});
      EXPECT_LE(RelativeError(RunOnCuda(data).view(), data.Run(*reference).view()), kTolerance)
          << q_heads << " of " << head_dim;
    }
  }
}

// Neither the batch nor the size of pages moves a bit.
TEST_P(IntegerCacheTest, ARowDoesNotDependOnItsBatchNorOnItsPages) {
  for (const int head_dim : {64, 80, 128}) {
    AttentionCase c{.q_heads = 4,
                    .kv_heads = 2,
                    .key_heads = 2,
                    .value_heads = 2,
                    .head_dim = head_dim,
                    .dtype = GetParam().dtype,
                    .inputs = kBf16,
                    .page_size = 64,
                    .sequences = {{.kv_len = 300, .q_len = 1}}};
    const Tensor alone = RunOnCuda(AttentionData(c));
    c.page_size = 128;
    EXPECT_TRUE(BitwiseEqual(RunOnCuda(AttentionData(c)).view(), alone.view())) << head_dim;
    // The first sequence has the first of the random contents.
    c.sequences.push_back({.kv_len = 130, .q_len = 1});
    const Tensor beside = RunOnCuda(AttentionData(c));
    EXPECT_TRUE(BitwiseEqual(beside.view().Rows(0, 1), alone.view())) << head_dim;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, IntegerCacheTest,
                         ::testing::Values(Formats{"Int8", kI8}, Formats{"Int4", kI4},
                                           Formats{"Int8Int4", {kI8, kI4}},
                                           Formats{"Int4Int8", {kI4, kI8}},
                                           Formats{"Bf16Int8", {kBf16, kI8}},
                                           Formats{"Int4Bf16", {kI4, kBf16}}),
                         [](const auto& test) { return test.param.name; });

// ---- What lies in the cache.

constexpr int kHeads = 3;
constexpr int kPages = 3;

Tensor Slabs(int page_size, int head_dim, DType dtype) {
  const int64_t slab = page_size * KvHeadBytes(head_dim, dtype);
  const Tensor memory = Allocate({kPages, kHeads, slab / 2}, kBf16);
  TensorView view =
      TensorView::Dense(memory.view().data, dtype, {kPages, kHeads, page_size, head_dim});
  view.stride = {kHeads * slab, slab, KvHeadElements(head_dim, dtype), 1};
  return Tensor(view, std::make_shared<Tensor>(memory));
}

struct Stored {
  std::vector<int> integers;
  Bf16 scale, zero = {0};
};

Stored StoredByReference(TensorView slabs, int page, int head, int token) {
  const auto page_size = slabs.shape[2];
  const auto d = slabs.shape[3];
  const int64_t slab = page * slabs.stride[0] + head * slabs.stride[1];
  const int64_t at = slab + token * slabs.stride[2];
  Stored stored;
  for (int64_t e = 0; e < d; ++e) {
    if (slabs.dtype == kI8) {
      stored.integers.push_back(slabs.as<int8_t>()[at + e]);
    } else {
      const int bits = slabs.as<Int4Pair>()[at + e / 32 * 16 + e % 16].bits;
      stored.integers.push_back(e % 32 < 16 ? bits & 15 : bits >> 4);
    }
  }
  if (slabs.dtype == kI8) {
    stored.scale = SlabScales(slabs.as<int8_t>() + slab, page_size, d)[token];
  } else {
    const Bf16* scales = Int4SlabScales(slabs.as<Int4Pair>() + slab, page_size, d);
    stored.scale = scales[token];
    stored.zero = scales[page_size + token];
  }
  return stored;
}

Stored StoredByCuda(TensorView slabs, int page, int head, int token) {
  const cuda::IntegerSlab layout = {static_cast<int>(slabs.shape[2]),
                                    static_cast<int>(slabs.shape[3]), slabs.dtype};
  const auto* slab = static_cast<const uint8_t*>(slabs.data) + layout.Begin(page, kHeads, head);
  Stored stored;
  for (int e = 0; e < layout.head_dim; ++e) {
    const int64_t at = layout.Offset(token, e / 2 * 2);
    if (slabs.dtype == kI8) {
      stored.integers.push_back(static_cast<int8_t>(slab[at + e % 2]));
    } else {
      stored.integers.push_back(slab[at] >> e % 2 * 4 & 15);
    }
  }
  stored.scale = *reinterpret_cast<const Bf16*>(slab + layout.Scale(token));
  if (slabs.dtype == kI4) stored.zero = *reinterpret_cast<const Bf16*>(slab + layout.Zero(token));
  return stored;
}

// Of whole numbers and halves of steps, outliers, zeros, subnormal and infinite numbers, and NaN.
Tensor Contents(int num_tokens, int head_dim) {
  Tensor heads = Random({num_tokens, kHeads, head_dim}, kBf16, 5);
  const auto fill = [&](int token, float value) {
    Bf16* row = heads.view().row<Bf16>(token);
    std::fill_n(row, kHeads * head_dim, ToBf16(value));
  };
  fill(1, 0.0f);
  fill(2, 0x1p-130f);
  fill(3, 3e38f);
  for (const int token : {4, 5, 6}) {
    const float value = token == 4 ? 1e4f : token == 5 ? INFINITY : NAN;
    heads.view().row<Bf16>(token)[head_dim / 2] = ToBf16(value);
  }
  for (int e = 0; e < kHeads * head_dim; ++e) {
    heads.view().row<Bf16>(7)[e] = ToBf16(0.5f * static_cast<float>(e % 255 - 127));
  }
  return heads;
}

TEST(IntegerAppendTest, StoresWhatTheReferenceStores) {
  const std::unique_ptr<Backend> cuda = MakeCuda();
  if (cuda == nullptr) GTEST_SKIP() << "no CUDA device here";
  const std::unique_ptr<Backend> staged = MakeStaged(cuda.get());
  const auto reference = CreateReferenceBackend();
  for (const int head_dim : {2, 24, 64, 80, 96, 128, 256, 512}) {
    for (const int page_size : {16, 64}) {
      for (const KvDTypes dtype : {KvDTypes(kI8), KvDTypes(kI4), KvDTypes(kI4, kI8)}) {
        SCOPED_TRACE(::testing::Message()
                     << head_dim << " in pages of " << page_size << " " << KvDTypesName(dtype));
        const int num_tokens = 12;
        std::vector<int32_t> slots(num_tokens);
        for (int t = 0; t < num_tokens; ++t) slots[t] = (t * 13 + 5) % (kPages * page_size);
        const Tensor slot_ids = Ints(slots);
        const Tensor heads = Contents(num_tokens, head_dim);
        const auto append = [&](Backend& backend) {
          Tensor angles = Allocate({num_tokens, head_dim}, backend.wide_dtype());
          for (int t = 0; t < num_tokens; ++t) {
            for (int i = 0; i < head_dim / 2; ++i) {
              if (backend.wide_dtype() == DType::kF64) angles.view().row<double>(t)[i] = 1;
              if (backend.wide_dtype() == DType::kF32) angles.view().row<float>(t)[i] = 1;
            }
          }
          PagedKvView kv = {.spec = {.key_heads = kHeads,
                                     .value_heads = kHeads,
                                     .head_dim = head_dim,
                                     .dtype = dtype},
                            .page_size = page_size};
          const std::pair slabs = {Slabs(page_size, head_dim, dtype.keys),
                                   Slabs(page_size, head_dim, dtype.values)};
          kv.keys = slabs.first.view();
          kv.values = slabs.second.view();
          const Tensor x = Convert(heads, backend.compute_dtype());
          const Tensor y = Convert(heads, backend.compute_dtype());
          backend.AppendKv({.k = x.view(),
                            .v = y.view(),
                            .slots = slot_ids.view(),
                            .cos_sin = angles.view(),
                            .kv = kv});
          return slabs;
        };
        const auto expected = append(*reference);
        const auto actual = append(*staged);
        for (int t = 0; t < num_tokens; ++t) {
          for (int head = 0; head < kHeads; ++head) {
            const int page = slots[t] / page_size;
            const int token = slots[t] % page_size;
            for (const bool keys : {true, false}) {
              const Stored want = StoredByReference(
                  (keys ? expected.first : expected.second).view(), page, head, token);
              Stored got =
                  StoredByCuda((keys ? actual.first : actual.second).view(), page, head, token);
              ASSERT_EQ(got.integers, want.integers) << t << " " << head << " " << keys;
              ASSERT_EQ(got.scale.bits, want.scale.bits) << t << " " << head << " " << keys;
              if (ToFloat(want.zero) == 0) got.zero = want.zero;  // of either sign
              ASSERT_EQ(got.zero.bits, want.zero.bits) << t << " " << head << " " << keys;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace mea
