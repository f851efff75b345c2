// Every op of the CUDA back end, on the emulator or on a device, against the reference on the same
// rounded inputs; outputs are poisoned before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/kernels/attention_case.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/gates.h"
#include "tests/kernels/op_support.h"
#include "tests/kernels/staged_backend.h"

namespace mea {
namespace {

// Relative Frobenius error against the reference. Rounding to BF16 errs by at most 2^-9 and by
// 1.1e-3 on average; what happens before that happens in F32.
constexpr double kBf16 = 2e-3;
// Sums in F32, of up to 1024 products here.
constexpr double kF32 = 2e-6;
// Softmax weights and results are rounded to BF16.
constexpr double kAttention = 5e-3;

constexpr int kMaxRows = 80;
constexpr int kVocab = 1500;

// Room for everything that the tests of single ops ask for.
BackendLimits OpLimits() {
  return {.max_rows = kMaxRows,
          .max_seqs = 16,
          .max_context = 1024,
          .max_logit_rows = 5,
          .page_size = 64,
          .hidden_size = 1024,
          .vocab_size = kVocab,
          .products = {{96, 1024}, {200, 64}}};
}

class CudaBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_ == nullptr) GTEST_SKIP() << "no CUDA device here";
    ASSERT_TRUE(cuda_->Prepare(OpLimits()).ok());
  }

  const std::unique_ptr<Backend> cuda_ = MakeCuda();
  const std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
  const std::unique_ptr<Backend> staged_ = MakeStaged(cuda_.get());
};

Tensor Wide(const Tensor& tensor) { return Convert(tensor, DType::kF64); }

TEST_F(CudaBackendTest, EmbedAgreesWithTheReference) {
  const Tensor table = Random({50, 72}, DType::kBf16, 1);
  const Tensor ids = Ints({49, 0, 7, 7, 31});
  const Tensor actual = Poisoned({5, 72}, DType::kF32);
  const Tensor expected = Poisoned({5, 72}, DType::kF64);
  for (const float scale : {1.0f, 27.7f}) {
    staged_->Embed(
        {.table = table.view(), .ids = ids.view(), .scale = scale, .out = actual.view()});
    reference_->Embed(
        {.table = table.view(), .ids = ids.view(), .scale = scale, .out = expected.view()});
    EXPECT_LE(RelativeError(actual.view(), expected.view()), scale == 1 ? 0.0 : kF32);
  }
}

TEST_F(CudaBackendTest, MatMulAgreesWithTheReference) {
  struct Shape {
    int64_t rows, outs, k;
  };
  uint64_t seed = 1;
  // Small products, large ones, and those that neither vector loads nor the skinny kernel take.
  for (const Shape shape :
       {Shape{1, 96, 1024}, Shape{3, 200, 64}, Shape{8, 17, 72}, Shape{9, 96, 1024},
        Shape{16, 33, 40}, Shape{70, 64, 128}, Shape{2, 5, 7}, Shape{20, 19, 515}}) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      for (const bool with_bias : {false, true}) {
        ++seed;
        SCOPED_TRACE(::testing::Message() << shape.rows << "x" << shape.outs << "x" << shape.k
                                          << " " << DTypeName(dtype) << " seed " << seed);
        const Tensor x = Random({shape.rows, shape.k}, DType::kBf16, seed);
        const Tensor w = Random({shape.outs, shape.k}, DType::kBf16, seed + 1000);
        const Tensor bias = with_bias ? Random({shape.outs}, DType::kF32, seed + 2000) : Tensor();
        const Tensor actual = Poisoned({shape.rows, shape.outs}, dtype);
        const Tensor expected = Poisoned({shape.rows, shape.outs}, DType::kF64);
        staged_->MatMul(x.view(), {.w = w.view(), .bias = bias.view(), .out = actual.view()});
        reference_->MatMul(Wide(x).view(),
                           {.w = w.view(), .bias = bias.view(), .out = expected.view()});
        EXPECT_LE(RelativeError(actual.view(), expected.view()),
                  dtype == DType::kF32 ? kF32 : kBf16);
      }
    }
  }
}

TEST_F(CudaBackendTest, MatMulWritesInsideAWiderTensor) {
  for (const int64_t rows : {4, 24}) {
    const Tensor x = Random({rows, 64}, DType::kBf16, 9);
    const Tensor w = Random({10, 40}, DType::kBf16, 10);
    const Tensor out = Allocate({rows, 20}, DType::kF32);
    staged_->MatMul(x.view().Columns(8, 40), {.w = w.view(), .out = out.view().Columns(4, 10)});
    const Tensor expected = Poisoned({rows, 10}, DType::kF64);
    reference_->MatMul(Wide(x).view().Columns(8, 40), {.w = w.view(), .out = expected.view()});
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < 20; ++column) {
        const bool inside = column >= 4 && column < 14;
        const double value = inside ? expected.view().row<double>(row)[column - 4] : 0.0;
        EXPECT_NEAR(out.view().row<float>(row)[column], value, 1e-4);
      }
    }
  }
}

TEST_F(CudaBackendTest, GatesAgreeWithTheReference) {
  for (const GateOp& op : kGates) {
    for (const int64_t width : {6, 24, 40}) {
      SCOPED_TRACE(::testing::Message() << op.name << " width " << width);
      // Columns of one buffer, which the staged back end takes for two.
      const Tensor both = Random({90, 2 * width}, DType::kBf16, 60, 4.0);
      const Tensor wide = Wide(both);
      const Tensor actual = Poisoned({90, width}, DType::kBf16);
      const Tensor expected = Poisoned({90, width}, DType::kF64);
      op.call(*staged_, both.view().Columns(0, width), both.view().Columns(width, width),
              actual.view());
      op.call(*reference_, wide.view().Columns(0, width), wide.view().Columns(width, width),
              expected.view());
      EXPECT_LE(RelativeError(actual.view(), expected.view()), kBf16);

      const Tensor gate = Random({90, width}, DType::kBf16, 3, 4.0);
      const Tensor up = Random({90, width}, DType::kBf16, 4);
      op.call(*reference_, Wide(gate).view(), Wide(up).view(), expected.view());
      op.call(*staged_, gate.view(), up.view(), gate.view());
      EXPECT_LE(RelativeError(gate.view(), expected.view()), kBf16) << "in place";
    }
  }
}

TEST_F(CudaBackendTest, GatherRowsCopiesRows) {
  const Tensor x = Random({11, 40}, DType::kBf16, 60, 3.0);
  const Tensor rows = Ints({10, 0, 3, 3});
  const Tensor gathered = Poisoned({4, 40}, DType::kBf16);
  const Tensor expected = Poisoned({4, 40}, DType::kF64);
  staged_->GatherRows({.x = x.view(), .rows = rows.view(), .out = gathered.view()});
  reference_->GatherRows({.x = Wide(x).view(), .rows = rows.view(), .out = expected.view()});
  EXPECT_EQ(RelativeError(gathered.view(), expected.view()), 0);
}

TEST_F(CudaBackendTest, RotationOfQueriesAgreesWithTheReference) {
  constexpr int kTokens = 9;
  std::vector<int32_t> positions(kTokens);
  for (int t = 0; t < kTokens; ++t) positions[t] = t * 13007;
  const Tensor ids = Ints(positions);
  for (const int head_dim : {16, 64, 96}) {
    for (const bool normed : {false, true}) {
      SCOPED_TRACE(::testing::Message() << head_dim << (normed ? " normed" : ""));
      Tensor inv_freq = Allocate({head_dim / 2}, DType::kF64);
      for (int i = 0; i < head_dim / 2; ++i) {
        inv_freq.view().as<double>()[i] = std::pow(10000.0, -2.0 * i / head_dim);
      }
      const Tensor actual_angles = Poisoned({kTokens, head_dim}, DType::kF32);
      const Tensor angles = Poisoned({kTokens, head_dim}, DType::kF64);
      const ComputeRopeArgs rope{
          .positions = ids.view(), .inv_freq = inv_freq.view(), .attention_factor = 1.25};
      ComputeRopeArgs args = rope;
      args.out = actual_angles.view();
      staged_->ComputeRope(args);
      args.out = angles.view();
      reference_->ComputeRope(args);
      EXPECT_LE(RelativeError(actual_angles.view(), angles.view()), kF32);

      const Tensor gain = normed ? Random({head_dim}, DType::kF32, 1) : Tensor();
      // Queries as columns of a wider buffer.
      const Tensor actual = Random({kTokens, 7 * head_dim}, DType::kBf16, 2);
      const Tensor expected = Wide(actual);
      PrepareQueriesArgs prepare{.gain = gain.view(), .eps = 1e-3f};
      prepare.q = actual.view().Columns(head_dim, 5 * head_dim).Split(5);
      prepare.cos_sin = actual_angles.view();
      staged_->PrepareQueries(prepare);
      prepare.q = expected.view().Columns(head_dim, 5 * head_dim).Split(5);
      prepare.cos_sin = angles.view();
      reference_->PrepareQueries(prepare);
      EXPECT_LE(RelativeError(actual.view(), expected.view()), kBf16);
    }
  }
}

// The cache's layout is the back end's own: what was appended shows in what attention makes of it.
TEST_F(CudaBackendTest, AttentionOverAppendedTokensAgreesWithTheReference) {
  std::mt19937_64 random(7);
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    const auto pick = [&](std::initializer_list<int> from) {
      return from.begin()[random() % from.size()];
    };
    AttentionCase c{.kv_heads = pick({1, 2, 4}),
                    .head_dim = pick({16, 64, 64, 128}),
                    .dtype = DType::kBf16,
                    .inputs = DType::kBf16,
                    .head_norm = random() % 2 == 0,
                    .window = pick({0, 0, 40}),
                    .page_size = pick({64, 128}),
                    .seed = seed};
    c.q_heads = c.kv_heads * pick({1, 3});
    c.key_heads = c.value_heads = c.kv_heads;
    if (random() % 2 == 0) {
      c.key_heads = pick({1, 2, 3});
      c.value_heads = pick({1, 2, 3});
      c.key_mix = c.value_mix = true;
      c.key_norms = random() % 2 == 0;
    }
    // Rows that decode, short chunks and long ones in one batch.
    for (const int q_len : {1, pick({1, 5}), pick({1, 30})}) {
      c.sequences.push_back({.kv_len = q_len + static_cast<int>(random() % 300), .q_len = q_len});
    }
    SCOPED_TRACE(::testing::Message()
                 << "seed " << seed << ": H " << c.q_heads << " h " << c.kv_heads << " h'K "
                 << c.key_heads << " h'V " << c.value_heads << " d " << c.head_dim << " window "
                 << c.window << " norms " << c.key_norms << c.head_norm);
    BackendLimits limits = OpLimits();
    limits.page_size = c.page_size;
    limits.attention = {{.q_heads = c.q_heads,
                         .kv_heads = c.kv_heads,
                         .head_dim = c.head_dim,
                         .window = c.window,
                         .is_composed = c.key_mix}};
    ASSERT_TRUE(cuda_->Prepare(limits).ok());
    const AttentionData data(c);
    EXPECT_LE(RelativeError(data.Run(*staged_).view(), data.Run(*reference_).view()), kAttention);
  }
}

TEST_F(CudaBackendTest, InterleavedAttentionAgreesWithTheReference) {
  std::mt19937_64 random(8);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const auto pick = [&](std::initializer_list<int> from) {
      return from.begin()[random() % from.size()];
    };
    AttentionCase c{.head_dim = pick({16, 24, 64, 128}),
                    .dtype = DType::kBf16,
                    .inputs = DType::kBf16,
                    .window = pick({0, 1, 40}),
                    .pseudo_heads = pick({1, 2, 3}),
                    .page_size = pick({16, 64}),
                    .seed = seed};
    c.kv_heads = c.key_heads = c.value_heads = pick({1, 3, 4});
    c.q_heads = c.pseudo_heads * c.kv_heads;
    for (const int q_len : {1, pick({1, 5}), pick({1, 12})}) {
      c.sequences.push_back({.kv_len = q_len + static_cast<int>(random() % 300), .q_len = q_len});
    }
    SCOPED_TRACE(::testing::Message()
                 << "seed " << seed << ": P " << c.pseudo_heads << " h " << c.kv_heads << " d "
                 << c.head_dim << " window " << c.window);
    BackendLimits limits = OpLimits();
    limits.page_size = c.page_size;
    limits.attention = {{.q_heads = c.q_heads,
                         .kv_heads = c.q_heads,
                         .head_dim = c.head_dim,
                         .window = c.window,
                         .is_composed = true,
                         .pseudo_heads = c.pseudo_heads}};
    ASSERT_TRUE(cuda_->Prepare(limits).ok());
    const AttentionData data(c);
    EXPECT_LE(RelativeError(data.Run(*staged_).view(), data.Run(*reference_).view()), kAttention);
  }
}

TEST_F(CudaBackendTest, MixesHeadsAsTheReferenceDoes) {
  for (const int64_t head_dim : {6, 24, 64}) {
    const Tensor x = Random({7, 5, head_dim}, DType::kBf16, 1);
    const Tensor mix = Random({5, 6}, DType::kF32, 2);
    const Tensor mixed = Poisoned({7, 6, head_dim}, DType::kBf16);
    const Tensor expected = Poisoned({7, 6, head_dim}, DType::kF64);
    staged_->MixHeads({.x = x.view(), .mix = mix.view(), .out = mixed.view()});
    reference_->MixHeads({.x = Wide(x).view(), .mix = mix.view(), .out = expected.view()});
    EXPECT_LE(RelativeError(mixed.view(), expected.view()), kBf16) << head_dim;
  }
}

TEST_F(CudaBackendTest, DrawsWhatTheReferenceDraws) {
  // More rows than fit at once, and more edits: one row edits every token.
  constexpr int kRows = 12;
  const Tensor logits = Random({kRows, kVocab}, DType::kF32, 70, 4.0);
  std::vector<SampleRow> rows(kRows);
  std::vector<LogitEdit> edits;
  for (int i = 0; i < kRows; ++i) {
    rows[i] = {.temperature = i % 4 == 0 ? 0.0f : 0.5f + 0.1f * static_cast<float>(i),
               .top_k = i % 3 == 0 ? 20 : 0,
               .top_p = i % 5 == 0 ? 0.7f : 1.0f,
               .seed = 100,
               .counter = static_cast<uint64_t>(i),
               .edits_begin = static_cast<int32_t>(edits.size()),
               .num_top = i % 2 == 0 ? 5 : -1};
    const int num_edits = i == 7 ? kVocab : i;
    for (int e = 0; e < num_edits; ++e) edits.push_back({.token_id = e, .bias = 2.0f});
    rows[i].edits_end = static_cast<int32_t>(edits.size());
    if (i % 3 != 1) continue;
    rows[i].mask = 3 - i / 3;  // rows and masks are not in the same order
  }
  std::vector<uint32_t> masks(4 * MaskWords(kVocab));
  for (size_t word = 0; word < masks.size(); ++word) masks[word] = 0x11111111u << word % 4;
  std::vector<SampledToken> actual(kRows);
  std::vector<SampledToken> expected(kRows);
  staged_->Sample(
      {.logits = logits.view(), .rows = rows, .edits = edits, .masks = masks, .tokens = actual});
  reference_->Sample({.logits = Wide(logits).view(),
                      .rows = rows,
                      .edits = edits,
                      .masks = masks,
                      .tokens = expected});
  for (int i = 0; i < kRows; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(actual[i].token_id, expected[i].token_id);
    EXPECT_EQ(actual[i].is_finite, 1);
    if (rows[i].mask >= 0) {
      const uint32_t word =
          masks[rows[i].mask * MaskWords(kVocab) + actual[i].token_id / kMaskBits];
      EXPECT_NE(word >> (actual[i].token_id % kMaskBits) & 1, 0u);
    }
    if (rows[i].num_top < 0) continue;
    EXPECT_NEAR(actual[i].logprob, expected[i].logprob, 1e-4);
    for (int top = 0; top < rows[i].num_top; ++top) {
      EXPECT_EQ(actual[i].top_ids[top], expected[i].top_ids[top]);
      EXPECT_NEAR(actual[i].top_logprobs[top], expected[i].top_logprobs[top], 1e-4);
    }
  }

  const std::vector<int32_t> targets = {0, 7, 1499, 3, 3, 8, 900, 12, 1, 2, 77, 5};
  std::vector<float> logprobs(kRows), expected_logprobs(kRows);
  staged_->TokenLogprobs({.logits = logits.view(), .targets = targets, .logprobs = logprobs});
  reference_->TokenLogprobs(
      {.logits = Wide(logits).view(), .targets = targets, .logprobs = expected_logprobs});
  for (int i = 0; i < kRows; ++i) EXPECT_NEAR(logprobs[i], expected_logprobs[i], 1e-4) << i;
}

TEST_F(CudaBackendTest, PaddedRowsAreFewAndNeverTooMany) {
  BackendLimits limits = OpLimits();
  limits.max_seqs = 37;
  ASSERT_TRUE(cuda_->Prepare(limits).ok());
  std::vector<int> padded;
  for (const int rows : {1, 2, 3, 5, 8, 9, 16, 17, 24, 25, 33, 37}) {
    padded.push_back(cuda_->PaddedRows(rows));
  }
  EXPECT_THAT(padded, ::testing::ElementsAre(1, 2, 4, 8, 8, 16, 16, 24, 24, 32, 37, 37));
}

TEST_F(CudaBackendTest, WhatNoKernelTakesIsRefusedByName) {
  BackendLimits limits = OpLimits();
  limits.hidden_size = 1 << 20;
  EXPECT_EQ(cuda_->Prepare(limits),
            absl::InvalidArgumentError(
                "the CUDA back end takes no hidden size of 1048576, only up to 16384"));
  limits = OpLimits();
  limits.vocab_size = 1 << 20;
  EXPECT_EQ(cuda_->Prepare(limits).code(), absl::StatusCode::kInvalidArgument);
  limits = OpLimits();
  limits.max_logit_rows = 1 << 20;
  EXPECT_GT(cuda_->PlannedBytes(limits)->scratch, int64_t{1} << 32);
  EXPECT_EQ(cuda_->Prepare(limits).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(cuda_->Prepare(OpLimits()).ok());
  EXPECT_TRUE(cuda_->Synchronize().ok());
}

}  // namespace
}  // namespace mea
