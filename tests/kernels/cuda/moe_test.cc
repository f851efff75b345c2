// The mixture of experts on the CUDA back end, emulated or on a device, against the reference.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/moe_case.h"
#include "tests/kernels/staged_backend.h"

namespace mea {
namespace {

// What an expert makes of a row is rounded to BF16 twice on its way, and their sum once.
constexpr double kMoe = 5e-3;

class CudaMoeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_ == nullptr) GTEST_SKIP() << "no CUDA device here";
  }

  static MoeCase Bf16Case(MoeCase c) {
    c.weights = c.router = c.inputs = DType::kBf16;
    return c;
  }

  void Prepare(const MoeCase& c) {
    ASSERT_TRUE(cuda_
                    ->Prepare({.num_layers = 1,
                               .max_rows = static_cast<int>(c.num_tokens),
                               .max_seqs = 1,
                               .max_context = 64,
                               .max_logit_rows = 1,
                               .page_size = 64,
                               .hidden_size = static_cast<int>(c.hidden),
                               .vocab_size = 64,
                               .moe = {.num_experts = c.num_experts,
                                       .top_k = c.top_k,
                                       .ffn_size = static_cast<int>(c.ffn)}})
                    .ok());
  }

  const std::unique_ptr<Backend> cuda_ = MakeCuda();
  const std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
  const std::unique_ptr<Backend> staged_ = MakeStaged(cuda_.get());
};

TEST_F(CudaMoeTest, AgreesWithTheReference) {
  uint64_t seed = 100;
  // Few slots per expert and many, more experts than lanes, ends of tiles inside and at their
  // edges.
  for (const MoeCase& shape : std::vector<MoeCase>{
           {.num_tokens = 1, .hidden = 8, .ffn = 8, .num_experts = 1, .top_k = 1},
           {.num_tokens = 1, .hidden = 256, .ffn = 128, .num_experts = 4, .top_k = 2},
           {.num_tokens = 9, .hidden = 72, .ffn = 40, .num_experts = 70, .top_k = 8},
           {.num_tokens = 40, .hidden = 64, .ffn = 136, .num_experts = 3, .top_k = 2},
           {.num_tokens = 70, .hidden = 136, .ffn = 64, .num_experts = 4, .top_k = 4}}) {
    for (const bool renormalise : {false, true}) {
      MoeCase c = Bf16Case(shape);
      c.renormalise = renormalise;
      c.seed = seed += 1000;
      SCOPED_TRACE(::testing::Message()
                   << c.num_tokens << " rows, " << c.num_experts << " experts, seed " << c.seed);
      Prepare(c);
      const MoeData data(c);
      EXPECT_LE(RelativeError(data.Run(*staged_).view(), data.Run(*reference_).view()), kMoe);
    }
  }
}

// Few rows and many go different ways, with the same bits.
TEST_F(CudaMoeTest, ARowDependsOnThatRowAlone) {
  const MoeCase c = Bf16Case(
      {.num_tokens = 60, .hidden = 168, .ffn = 72, .num_experts = 4, .top_k = 2, .seed = 7});
  Prepare(c);
  const MoeData data(c);
  const Tensor all = data.Run(*staged_);
  for (const int64_t rows : {1, 8, 9, 33}) {
    const int64_t first = c.num_tokens - rows;
    EXPECT_TRUE(BitwiseEqual(data.Run(*staged_, first, rows).view(), all.view().Rows(first, rows)))
        << rows;
  }
}

TEST_F(CudaMoeTest, AnExpertMayHaveAllRowsOrNone) {
  const MoeCase c = Bf16Case({.num_tokens = 50, .hidden = 24, .ffn = 16, .num_experts = 4});
  Prepare(c);
  const MoeData data(c);
  for (int64_t t = 0; t < c.num_tokens; ++t) data.x().view().row<Bf16>(t)[0] = ToBf16(4.0f);
  data.router().view().row<Bf16>(1)[0] = ToBf16(100.0f);
  data.router().view().row<Bf16>(3)[0] = ToBf16(-100.0f);
  EXPECT_LE(RelativeError(data.Run(*staged_).view(), data.Run(*reference_).view()), kMoe);
}

TEST_F(CudaMoeTest, OfEqualExpertsTheFirstOnesAreChosen) {
  const MoeCase c =
      Bf16Case({.num_tokens = 5, .hidden = 32, .ffn = 16, .num_experts = 40, .top_k = 3});
  Prepare(c);
  const MoeData data(c);
  // Every expert's logit is one of two, the larger at 7, 20, 33, 39; and of both zeros.
  for (int e = 0; e < c.num_experts; ++e) {
    Bf16* const row = data.router().view().row<Bf16>(e);
    for (int64_t i = 0; i < c.hidden; ++i)
      row[i] = {static_cast<uint16_t>(e % 2 == 0 ? 0x8000 : 0)};
    if (e == 7 || e == 20 || e == 33 || e == 39) row[0] = ToBf16(1.0f);
  }
  for (int64_t t = 0; t < c.num_tokens; ++t) {
    data.x().view().row<Bf16>(t)[0] = ToBf16(t < 3 ? 1.0f : -1.0f);
  }
  EXPECT_LE(RelativeError(data.Run(*staged_).view(), data.Run(*reference_).view()), kMoe);
}

TEST_F(CudaMoeTest, WhatNoKernelTakesIsRefusedByName) {
  BackendLimits limits = {.max_rows = 8,
                          .max_seqs = 1,
                          .max_context = 64,
                          .max_logit_rows = 1,
                          .page_size = 64,
                          .hidden_size = 64,
                          .vocab_size = 64};
  const auto refusal = [&](const MoeShape& moe) {
    limits.moe = moe;
    return std::string(cuda_->Prepare(limits).message());
  };
  EXPECT_EQ(refusal({.num_experts = 1025, .top_k = 2, .ffn_size = 8}),
            "the CUDA back end takes no mixture of 1025, only up to 1024 experts");
  EXPECT_EQ(refusal({.num_experts = 64, .top_k = 33, .ffn_size = 8}),
            "the CUDA back end takes no choice of 33, only up to 32 experts");
  EXPECT_EQ(refusal({.num_experts = 64, .top_k = 2, .ffn_size = 12}),
            "the CUDA back end takes no expert's ffn of 12, only multiples of 8");
  limits.hidden_size = 60;
  EXPECT_EQ(refusal({.num_experts = 64, .top_k = 2, .ffn_size = 8}),
            "the CUDA back end takes no hidden size beside experts of 60, only multiples of 8");
}

}  // namespace
}  // namespace mea
