// Products with weights in 4 bits on the CPU back end, on every instruction set of this machine.
// Their invariances are tested beside those of other weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "tests/kernels/op_support.h"

namespace mea {
namespace {

// What a checkpoint may bring: any integers, scales that differ widely, zeros at both ends.
Tensor AnyWeights(int64_t rows, int64_t k, Int4Layout layout, uint64_t seed) {
  std::mt19937_64 generator(seed);
  const int group = layout.group;
  Tensor w = AllocateInt4Rows(rows, k, std::move(layout)).value();
  for (int64_t i = 0; i < rows; ++i) {
    std::vector<uint8_t> integers(k);
    for (uint8_t& q : integers) q = static_cast<uint8_t>(generator() % 16);
    std::vector<Int4Group> groups(Int4Groups(k, group));
    for (Int4Group& of : groups) {
      const auto exponent = static_cast<float>(generator() % 8);
      of = {.scale = ToF16(std::exp2(-exponent) * 1.25f),
            .zero = static_cast<int16_t>(generator() % 17)};
    }
    StoreInt4Row(integers, groups, std::exp2(static_cast<float>(generator() % 5) - 2.0f),
                 w.view().row<Int4Pair>(i));
  }
  return w;
}

// How far an element may be off: half a step of every group of x times the sum of |w|, and
// float32's share.
double Bound(const std::vector<double>& x, const std::vector<double>& w,
             const std::vector<int32_t>& order, const Int8Rounding& rounding) {
  double bound = 0;
  const auto k = std::ssize(x);
  const auto at = [&](int64_t i) { return order.empty() ? i : int64_t{order[i]}; };
  for (int64_t begin = 0; begin < k; begin += rounding.elements) {
    double largest = 0, sum = 0;
    for (int64_t i = begin; i < std::min(k, begin + rounding.elements); ++i) {
      largest = std::max(largest, std::abs(x[at(i)]));
      sum += std::abs(w[at(i)]);
    }
    bound += largest * sum * (0.5 / rounding.steps + 1e-6);
  }
  return bound;
}

std::vector<int32_t> ShuffledColumns(int64_t k, uint64_t seed) {
  std::vector<int32_t> order(k);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  return order;
}

class CpuInt4Test : public ::testing::TestWithParam<std::string> {
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
    std::vector<double> weights(w.view().shape[1]);
    for (int64_t out = 0; out < w.view().shape[0]; ++out) {
      WidenInt4Row(w.view(), out, weights.data());
      for (int64_t row = 0; row < x.view().shape[0]; ++row) {
        const double bound = Bound(ToDoubles(x.view().Rows(row, 1)), weights, w.view().int4->order,
                                   Int4RoundingOf(GetParam()));
        ASSERT_NEAR(actual.view().row<float>(row)[out], expected.view().row<double>(row)[out],
                    bound)
            << "row " << row << " out " << out;
      }
    }
  }

  std::unique_ptr<Backend> backend_ = MakeCpu(GetParam());
  std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

INSTANTIATE_TEST_SUITE_P(Targets, CpuInt4Test, ::testing::ValuesIn(CpuTargets()),
                         [](const auto& test) { return test.param; });

TEST_P(CpuInt4Test, EveryElementIsWithinHalfAStepOfTheReference) {
  uint64_t seed = 1;
  for (const int group : {32, 64, 128}) {
    for (const int64_t k : {1, 31, 33, 64, 100, 512, 545, 1030, 2200}) {
      for (const int64_t rows : {1, 2, 5, 16, 17, 40}) {
        seed += 2;
        SCOPED_TRACE(::testing::Message()
                     << rows << " rows, k " << k << ", groups of " << group << ", seed " << seed);
        ExpectWithinTheBound(Random({rows, k}, DType::kF32, seed),
                             AnyWeights(rows == 40 ? 70 : 7, k, {.group = group}, seed + 1));
      }
    }
  }
}

TEST_P(CpuInt4Test, ColumnsMeetTheirOwnElementsInAnyOrder) {
  for (const int64_t rows : {1, 3, 20}) {
    const Int4Layout layout{.group = 32, .order = ShuffledColumns(200, rows)};
    ExpectWithinTheBound(Random({rows, 200}, DType::kF32, 1), AnyWeights(40, 200, layout, 2));
  }
}

// Projections of the same rows, of which one has an order of its own.
TEST_P(CpuInt4Test, NeighboursWithOtherOrdersDoNotMix) {
  const Tensor x = Random({3, 128}, DType::kF32, 1);
  const Tensor plain = AnyWeights(20, 128, {}, 2);
  const Tensor ordered = AnyWeights(20, 128, {.order = ShuffledColumns(128, 3)}, 4);
  std::vector<Tensor> together;
  std::vector<Projection> projections;
  for (const Tensor* w : {&plain, &ordered, &plain}) {
    together.push_back(Poisoned({3, 20}, DType::kF32));
    projections.push_back({.w = w->view(), .out = together.back().view()});
  }
  backend_->MatMul({.x = x.view(), .projections = projections});
  EXPECT_TRUE(BitwiseEqual(together[0].view(), Multiply(x, plain).view()));
  EXPECT_TRUE(BitwiseEqual(together[1].view(), Multiply(x, ordered).view()));
  EXPECT_TRUE(BitwiseEqual(together[2].view(), Multiply(x, plain).view()));
}

TEST_P(CpuInt4Test, LargestSumsOfAStretchDoNotOverflow) {
  constexpr int64_t kDepth = 1024;
  const Tensor x = Allocate({1, kDepth}, DType::kF32);
  const Tensor w = AllocateInt4Rows(1, kDepth, {.group = 128}).value();
  const std::vector<uint8_t> integers(kDepth, 15);
  for (const int16_t zero : {0, 16}) {
    const std::vector<Int4Group> groups(8, {.scale = ToF16(1.0f), .zero = zero});
    StoreInt4Row(integers, groups, 1.0f, w.view().row<Int4Pair>(0));
    for (const float size : {1e-15f, -1.0f, 1e15f}) {
      std::fill_n(x.view().as<float>(), kDepth, size);
      EXPECT_NEAR(Multiply(x, w).view().as<float>()[0] / (size * kDepth * (15 - zero)), 1.0, 1e-5);
    }
  }
}

TEST_P(CpuInt4Test, ZerosAndTheTiniestNumbersGiveZero) {
  const Tensor w = AnyWeights(5, 600, {}, 3);
  for (const float tiny : {0.0f, -0.0f, 1e-45f, -1e-39f}) {
    const Tensor x = Allocate({2, 600}, DType::kF32);
    std::fill_n(x.view().as<float>(), 1200, tiny);
    for (const double value : ToDoubles(Multiply(x, w).view())) EXPECT_EQ(value, 0) << tiny;
  }
}

// Nothing that looks like a number comes of a row that holds none, and no other row is touched.
TEST_P(CpuInt4Test, ARowWithAnInfinityOrANaNIsNaN) {
  const Tensor w = AnyWeights(9, 1030, {}, 4);
  ExpectRowsNotFiniteAlone([&](const Tensor& x) { return Multiply(x, w); }, 1030,
                           [](float y) { return std::isnan(y); });
}

}  // namespace
}  // namespace mea
