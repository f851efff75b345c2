// The norms of the CUDA back end, on the emulator or on a device, against the reference on the same
// rounded inputs.
#include <gtest/gtest.h>

#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/norms.h"
#include "tests/kernels/op_support.h"
#include "tests/kernels/staged_backend.h"

namespace mea {
namespace {

// Relative Frobenius errors: of a rounding to BF16 and a trace before it, and of what happens in
// F32.
constexpr double kRounded = 0x1p-8 * 1.001;
constexpr double kSum = 2e-6;

class CudaNormTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_ == nullptr) GTEST_SKIP() << "no CUDA device here";
  }

  const std::unique_ptr<Backend> cuda_ = MakeCuda();
  const std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
  const std::unique_ptr<Backend> staged_ = MakeStaged(cuda_.get());
};

Tensor InDoubles(const Tensor& tensor) { return Convert(tensor, DType::kF64); }

TEST_F(CudaNormTest, RmsNormAgreesWithTheReference) {
  for (const int64_t hidden : {8, 31, 768}) {
    const Tensor x = Random({13, hidden}, DType::kF32, 20 + hidden, 3.0);
    const Tensor some_gain = Random({hidden}, DType::kF32, 40 + hidden);
    for (const TensorView& gain : {some_gain.view(), TensorView()}) {
      const Tensor actual = Poisoned({13, hidden}, DType::kBf16);
      const Tensor expected = Poisoned({13, hidden}, DType::kF64);
      staged_->RmsNorm({.x = x.view(), .gain = gain, .eps = 1e-2f, .out = actual.view()});
      reference_->RmsNorm(
          {.x = InDoubles(x).view(), .gain = gain, .eps = 1e-2f, .out = expected.view()});
      EXPECT_LE(RelativeError(actual.view(), expected.view()), kRounded) << hidden;
    }
  }
}

TEST_F(CudaNormTest, AddRmsNormAgreesWithTheReference) {
  for (const NormCase& norm : kNorms) {
    for (const int64_t hidden : {8, 31, 768}) {
      SCOPED_TRACE(::testing::Message() << norm.name << " hidden " << hidden);
      const Tensor residual = Random({13, hidden}, DType::kF32, 20 + hidden, 3.0);
      const Tensor wide = InDoubles(residual);
      const Tensor delta = Random({13, hidden}, DType::kBf16, 30 + hidden, 0.5);
      const Tensor gain = Random({hidden}, DType::kF32, 40 + hidden);
      const Tensor delta_gain = Random({hidden}, DType::kF32, 50 + hidden);
      const Tensor actual = Poisoned({13, hidden}, DType::kBf16);
      const Tensor expected = Poisoned({13, hidden}, DType::kF64);
      staged_->AddRmsNorm(NormArgs(norm, delta.view(), delta_gain.view(), residual.view(),
                                   gain.view(), actual.view()));
      reference_->AddRmsNorm(NormArgs(norm, InDoubles(delta).view(), delta_gain.view(), wide.view(),
                                      gain.view(), expected.view()));
      EXPECT_LE(RelativeError(residual.view(), wide.view()), kSum);
      EXPECT_LE(RelativeError(actual.view(), expected.view()), kRounded);
    }
  }
}

TEST_F(CudaNormTest, NormRowsAgreesWithTheReferenceInColumnsOfABuffer) {
  for (const int64_t width : {8, 31, 512}) {
    SCOPED_TRACE(width);
    const Tensor buffer = Random({13, width + 24}, DType::kBf16, 80 + width, 3.0);
    const Tensor wide = InDoubles(buffer);
    const Tensor gain = Random({width}, DType::kF32, 81 + width);
    const TensorView x = buffer.view().Columns(16, width);
    const TensorView expected = wide.view().Columns(16, width);
    staged_->NormRows({.x = x, .gain = gain.view(), .eps = 1e-2f, .out = x});
    reference_->NormRows({.x = expected, .gain = gain.view(), .eps = 1e-2f, .out = expected});
    EXPECT_LE(RelativeError(buffer.view(), wide.view()), kRounded);
  }
}

}  // namespace
}  // namespace mea
