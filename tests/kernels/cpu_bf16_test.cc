// Products with BF16 weights on processors that multiply BF16 numbers: the CPU back end rounds its
// rows to BF16 there. Their invariances are tested beside those of other weights.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/kernels/op_support.h"

namespace mea {
namespace {

class CpuBf16Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!MultipliesBf16(CpuTargets().front())) GTEST_SKIP() << "no BF16 products on this machine";
    backend_ = MakeCpu(CpuTargets().front());
  }

  Tensor Multiply(const Tensor& x, const Tensor& w) {
    const Tensor out = Poisoned({x.view().shape[0], w.view().shape[0]}, DType::kF32);
    backend_->MatMul(x.view(), {.w = w.view(), .out = out.view()});
    return out;
  }

  std::unique_ptr<Backend> backend_;
};

// Two bounds in one pass: of the product of the rounded rows, where only the sums round, each of
// its k / 2 steps by 2^-23 of what is there at most; and of the rows as they came, 2^-8 more.
TEST_F(CpuBf16Test, EveryElementIsWithinTheBound) {
  uint64_t seed = 1;
  for (const int64_t k : {1, 2, 31, 33, 511, 512, 513, 1030, 2049}) {
    for (const int64_t rows : {1, 2, 5, 11, 16, 17, 40}) {
      seed += 2;
      SCOPED_TRACE(::testing::Message() << rows << " rows, k " << k << " seed " << seed);
      const Tensor x = Random({rows, k}, DType::kF32, seed);
      const Tensor w = Random({37, k}, DType::kBf16, seed + 1);
      const Tensor rounded = Convert(x, DType::kBf16);
      const Tensor actual = Multiply(x, w);
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t out = 0; out < 37; ++out) {
          double of_rounded = 0, of_row = 0, sizes = 0;
          for (int64_t i = 0; i < k; ++i) {
            const double weight = ToFloat(w.view().row<Bf16>(out)[i]);
            of_rounded += weight * ToFloat(rounded.view().row<Bf16>(row)[i]);
            of_row += weight * x.view().row<float>(row)[i];
            sizes += std::abs(weight * x.view().row<float>(row)[i]);
          }
          const double value = actual.view().row<float>(row)[out];
          const double sums = sizes * (k / 2 + 1) * 0x1p-23;
          ASSERT_NEAR(value, of_rounded, sums) << "row " << row << " out " << out;
          ASSERT_NEAR(value, of_row, sums + sizes * 0x1p-8) << "row " << row << " out " << out;
        }
      }
    }
  }
}

TEST_F(CpuBf16Test, ProductsOfSmallIntegersAreExact) {
  for (const int64_t rows : {1, 16, 17, 25, 200}) {
    const Tensor x = Allocate({rows, 600}, DType::kF32);
    const Tensor w = Allocate({70, 600}, DType::kBf16);
    for (int64_t i = 0; i < rows * 600; ++i)
      x.view().as<float>()[i] = static_cast<float>(i % 7) - 3;
    for (int64_t i = 0; i < 70 * 600; ++i) {
      w.view().as<Bf16>()[i] = ToBf16(static_cast<float>(i % 11) - 5);
    }
    const Tensor out = Multiply(x, w);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t o = 0; o < 70; ++o) {
        double expected = 0;
        for (int64_t i = 0; i < 600; ++i) {
          expected += x.view().row<float>(row)[i] * ToFloat(w.view().row<Bf16>(o)[i]);
        }
        ASSERT_EQ(out.view().row<float>(row)[o], expected) << rows << ": " << row << ", " << o;
      }
    }
  }
}

// A mapped file places weights anywhere, in odd places too.
TEST_F(CpuBf16Test, WhereWeightsBeginInALineChangesNoBit) {
  for (const int64_t k : {20, 576, 600}) {
    const Tensor w = Random({37, k}, DType::kBf16, 5);
    const int64_t bytes = w.num_bytes();
    const Tensor file = Allocate({bytes + 64}, DType::kI8);
    for (const int64_t rows : {1, 2, 7, 16, 17}) {
      const Tensor x = Random({rows, k}, DType::kF32, 6);
      const Tensor expected = Multiply(x, w);
      for (int64_t begin = 2; begin < 64; begin += 2) {
        auto* const at = file.view().as<int8_t>() + begin;
        std::memcpy(at, w.view().data, bytes);
        const Tensor there(TensorView::Dense(at, DType::kBf16, {37, k}), nullptr);
        ASSERT_EQ(ToDoubles(Multiply(x, there).view()), ToDoubles(expected.view()))
            << rows << " rows, k " << k << ", byte " << begin;
      }
    }
  }
}

// The instruction takes denormal numbers for zeros.
TEST_F(CpuBf16Test, DenormalNumbersAreZeros) {
  const Tensor w = Random({5, 600}, DType::kBf16, 3);
  for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-39f}) {
    const Tensor x = Allocate({2, 600}, DType::kF32);
    std::fill_n(x.view().as<float>(), 1200, tiny);
    for (const double value : ToDoubles(Multiply(x, w).view())) EXPECT_EQ(value, 0) << tiny;
  }
}

// Nothing that looks like a number comes of a row that holds none, and no other row is touched.
TEST_F(CpuBf16Test, ARowWithAnInfinityOrANaNIsNotFinite) {
  const Tensor w = Random({9, 1031}, DType::kBf16, 4);
  ExpectRowsNotFiniteAlone([&](const Tensor& x) { return Multiply(x, w); }, 1031,
                           [](float y) { return !std::isfinite(y); },
                           {std::numeric_limits<float>::max()});
}

}  // namespace
}  // namespace mea
