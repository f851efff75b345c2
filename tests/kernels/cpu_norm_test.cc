// The norms of the CPU back end against the reference, on every instruction set of this machine.
#include <gtest/gtest.h>

#include "tests/kernels/norms.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

class CpuNormTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
  std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

TEST_P(CpuNormTest, RmsNormAgreesWithTheReference) {
  for (const int64_t hidden : {1, 8, 31, 768}) {
    const Tensor x = Random({13, hidden}, DType::kF32, 20 + hidden, 3.0);
    const Tensor gain = Random({hidden}, DType::kF32, 40 + hidden);
    const Tensor actual = Poisoned({13, hidden}, DType::kF32);
    const Tensor expected = Poisoned({13, hidden}, DType::kF64);
    backend_->RmsNorm({.x = x.view(), .gain = gain.view(), .eps = 1e-2f, .out = actual.view()});
    reference_->RmsNorm({.x = Convert(x, DType::kF64).view(),
                         .gain = gain.view(),
                         .eps = 1e-2f,
                         .out = expected.view()});
    EXPECT_LE(RelativeError(actual.view(), expected.view()), Tolerance::kRowwise) << hidden;

    Poison(actual.view());
    backend_->RmsNorm({.x = x.view(), .out = actual.view()});
    EXPECT_TRUE(BitwiseEqual(actual.view(), x.view())) << hidden;
  }
}

TEST_P(CpuNormTest, RmsNormMayOverwriteItsInput) {
  const Tensor x = Random({3, 50}, DType::kF32, 50);
  const Tensor gain = Random({50}, DType::kF32, 51);
  const Tensor expected = Poisoned({3, 50}, DType::kF32);
  backend_->RmsNorm({.x = x.view(), .gain = gain.view(), .eps = 1e-6f, .out = expected.view()});
  backend_->RmsNorm({.x = x.view(), .gain = gain.view(), .eps = 1e-6f, .out = x.view()});
  EXPECT_TRUE(BitwiseEqual(x.view(), expected.view()));
}

TEST_P(CpuNormTest, AddRmsNormAgreesWithTheReference) {
  for (const NormCase& norm : kNorms) {
    for (const int64_t hidden : {1, 8, 31, 768}) {
      SCOPED_TRACE(::testing::Message() << norm.name << " hidden " << hidden);
      const Tensor residual = Random({13, hidden}, DType::kF32, 20 + hidden, 3.0);
      const Tensor delta = Random({13, hidden}, DType::kF32, 30 + hidden, 0.5);
      const Tensor gain = Random({hidden}, DType::kF32, 40 + hidden);
      const Tensor delta_gain = Random({hidden}, DType::kF32, 50 + hidden);
      const Tensor actual = Poisoned({13, hidden}, DType::kF32);
      const Tensor expected = Poisoned({13, hidden}, DType::kF64);
      const Tensor wide = Convert(residual, DType::kF64);
      reference_->AddRmsNorm(NormArgs(norm, Convert(delta, DType::kF64).view(), delta_gain.view(),
                                      wide.view(), gain.view(), expected.view()));
      backend_->AddRmsNorm(NormArgs(norm, delta.view(), delta_gain.view(), residual.view(),
                                    gain.view(), actual.view()));
      EXPECT_LE(RelativeError(residual.view(), wide.view()), Tolerance::kRowwise);
      EXPECT_LE(RelativeError(actual.view(), expected.view()), Tolerance::kRowwise);
    }
  }
}

TEST_P(CpuNormTest, AddRmsNormOfARowDependsOnThatRowAlone) {
  const Tensor delta = Random({35, 77}, DType::kF32, 60);
  const Tensor gain = Random({77}, DType::kF32, 61);
  const Tensor delta_gain = Random({77}, DType::kF32, 62);
  for (const NormCase& norm : kNorms) {
    SCOPED_TRACE(norm.name);
    const Tensor residual = Random({35, 77}, DType::kF32, 63);
    const Tensor alone = Random({35, 77}, DType::kF32, 63);
    const Tensor all = Poisoned({35, 77}, DType::kF32);
    const Tensor last = Poisoned({1, 77}, DType::kF32);
    MakeCpu(GetParam(), 5)
        ->AddRmsNorm(NormArgs(norm, delta.view(), delta_gain.view(), residual.view(), gain.view(),
                              all.view()));
    MakeCpu(GetParam(), 1)
        ->AddRmsNorm(NormArgs(norm, delta.view().Rows(34, 1), delta_gain.view(),
                              alone.view().Rows(34, 1), gain.view(), last.view()));
    EXPECT_TRUE(BitwiseEqual(last.view(), all.view().Rows(34, 1)));
    EXPECT_TRUE(BitwiseEqual(alone.view().Rows(34, 1), residual.view().Rows(34, 1)));
  }
}

TEST_P(CpuNormTest, AddRmsNormOfAPlainSumRoundsOnce) {
  const Tensor residual = Random({3, 37}, DType::kF32, 70);
  const Tensor delta = Random({3, 37}, DType::kF32, 71);
  const Tensor sum = Allocate({3, 37}, DType::kF32);
  for (int i = 0; i < 3 * 37; ++i) {
    sum.view().as<float>()[i] = residual.view().as<float>()[i] + delta.view().as<float>()[i];
  }
  const Tensor out = Poisoned({3, 37}, DType::kF32);
  backend_->AddRmsNorm({.delta = delta.view(), .residual = residual.view(), .out = out.view()});
  EXPECT_TRUE(BitwiseEqual(residual.view(), sum.view()));
  EXPECT_TRUE(BitwiseEqual(out.view(), sum.view()));
}

TEST_P(CpuNormTest, NormRowsAgreesWithTheReferenceInColumnsOfABuffer) {
  for (const int64_t width : {1, 8, 31, 512}) {
    SCOPED_TRACE(width);
    const Tensor buffer = Random({35, width + 20}, DType::kF32, 80 + width, 3.0);
    const Tensor before = Random({35, width + 20}, DType::kF32, 80 + width, 3.0);
    const Tensor wide = Convert(buffer, DType::kF64);
    const Tensor gain = Random({width}, DType::kF32, 81 + width);
    const TensorView x = buffer.view().Columns(7, width);
    const Tensor apart = Poisoned({35, width}, DType::kF32);
    const Tensor last = Poisoned({1, width}, DType::kF32);
    backend_->NormRows({.x = x, .gain = gain.view(), .eps = 1e-2f, .out = apart.view()});
    MakeCpu(GetParam(), 1)
        ->NormRows({.x = x.Rows(34, 1), .gain = gain.view(), .eps = 1e-2f, .out = last.view()});
    EXPECT_TRUE(BitwiseEqual(last.view(), apart.view().Rows(34, 1)));

    backend_->NormRows({.x = x, .gain = gain.view(), .eps = 1e-2f, .out = x});
    const TensorView expected = wide.view().Columns(7, width);
    reference_->NormRows({.x = expected, .gain = gain.view(), .eps = 1e-2f, .out = expected});
    EXPECT_LE(RelativeError(buffer.view(), wide.view()), Tolerance::kRowwise);
    for (int64_t row = 0; row < 35; ++row) {
      EXPECT_TRUE(BitwiseEqual(x.Rows(row, 1), apart.view().Rows(row, 1))) << row;
      EXPECT_TRUE(BitwiseEqual(buffer.view().Rows(row, 1).Columns(0, 7),
                               before.view().Rows(row, 1).Columns(0, 7)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, CpuNormTest, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mea
