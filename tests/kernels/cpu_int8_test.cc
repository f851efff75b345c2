// Products with weights in 8 bits on the CPU back end, which rounds its rows to 16 bits or 8, on
// every instruction set of this machine. Their invariances are tested beside those of other
// weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/int8_rows.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

// How far element (row, out) of x w^T may be off: half a step of every group of x times the sum of
// |w|, and float32's share.
double Bound(TensorView x, TensorView w, int64_t row, int64_t out, const Int8Rounding& rounding) {
  const float* const from = x.row<float>(row);
  const int8_t* const weights = w.row<int8_t>(out);
  const int64_t k = w.shape[1];
  double bound = 0;
  for (int64_t begin = 0; begin < k; begin += rounding.elements) {
    double largest = 0, sum = 0;
    for (int64_t i = begin; i < std::min(k, begin + rounding.elements); ++i) {
      largest = std::max(largest, std::abs(double{from[i]}));
      sum += std::abs(weights[i]);
    }
    bound += largest * sum * (0.5 / rounding.steps + 1e-6);
  }
  return bound * Int8Scale(weights, k);
}

class CpuInt8Test : public ::testing::TestWithParam<std::string> {
 protected:
  Tensor Multiply(const Tensor& x, const Tensor& w) {
    const Tensor out = Poisoned({x.view().shape[0], w.view().shape[0]}, DType::kF32);
    backend_->MatMul(x.view(), {.w = w.view(), .out = out.view()});
    return out;
  }

  void ExpectWithinTheBound(const Tensor& x, const Tensor& w) {
    const Tensor actual = Multiply(x, w);
    const Tensor expected = Poisoned({x.view().shape[0], w.view().shape[0]}, DType::kF64);
    reference_->MatMul(Convert(x, DType::kF64).view(), {.w = w.view(), .out = expected.view()});
    for (int64_t row = 0; row < x.view().shape[0]; ++row) {
      for (int64_t out = 0; out < w.view().shape[0]; ++out) {
        ASSERT_NEAR(actual.view().row<float>(row)[out], expected.view().row<double>(row)[out],
                    Bound(x.view(), w.view(), row, out, Int8RoundingOf(GetParam())))
            << "row " << row << " out " << out;
      }
    }
  }

  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
  std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

INSTANTIATE_TEST_SUITE_P(Targets, CpuInt8Test, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

TEST_P(CpuInt8Test, EveryElementIsWithinHalfAStepOfTheReference) {
  uint64_t seed = 1;
  for (const int64_t k : {1, 3, 31, 511, 512, 513, 1030}) {
    for (const int64_t rows : {1, 2, 5, 16, 17, 40}) {
      seed += 2;
      SCOPED_TRACE(::testing::Message() << rows << " rows, k " << k << " seed " << seed);
      ExpectWithinTheBound(Random({rows, k}, DType::kF32, seed),
                           Random({7, k}, DType::kI8, seed + 1));
    }
  }
}

TEST_P(CpuInt8Test, AnOutlierCoarsensItsStretchAlone) {
  for (const int64_t rows : {3, 20}) {
    const Tensor x = Random({rows, 1100}, DType::kF32, 1);
    const Tensor w = Random({33, 1100}, DType::kI8, 2);
    x.view().row<float>(1)[700] = -3e4f;
    ExpectWithinTheBound(x, w);
  }
}

TEST_P(CpuInt8Test, LargestSumsOfAStretchDoNotOverflow) {
  const Tensor x = Allocate({1, 1024}, DType::kF32);
  for (const float size : {1e-15f, 1.0f, 1e15f}) {
    std::fill_n(x.view().as<float>(), 1024, -size);
    EXPECT_NEAR(Multiply(x, Quantized(x)).view().as<float>()[0] / (1024 * size * size), 1.0, 1e-5);
  }
}

TEST_P(CpuInt8Test, ZerosAndTheTiniestNumbersGiveZero) {
  const Tensor w = Random({5, 600}, DType::kI8, 3);
  for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-39f}) {
    const Tensor x = Allocate({2, 600}, DType::kF32);
    std::fill_n(x.view().as<float>(), 1200, tiny);
    for (const double value : ToDoubles(Multiply(x, w).view())) EXPECT_EQ(value, 0) << tiny;
  }
}

// Nothing that looks like a number comes of a row that holds none, and no other row is touched.
TEST_P(CpuInt8Test, ARowWithAnInfinityOrANaNIsNaN) {
  const Tensor w = Random({9, 1030}, DType::kI8, 4);
  ExpectRowsNotFiniteAlone([&](const Tensor& x) { return Multiply(x, w); }, 1030,
                           [](float y) { return std::isnan(y); });
}

}  // namespace
}  // namespace mea
