#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/int8_rows.h"

namespace mea {
namespace {

TEST(DTypeTest, EveryBf16SurvivesARoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Bf16 x{static_cast<uint16_t>(bits)};
    const float wide = ToFloat(x);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToBf16(wide))));
    } else {
      EXPECT_EQ(ToBf16(wide).bits, bits);
    }
  }
}

TEST(DTypeTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 0x1p-8f)), 1.0f);            // a tie goes to the even neighbour
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 0x3p-8f)), 1.0f + 0x1p-6f);  // and here that is the upper one
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 0x1.8p-8f)), 1.0f + 0x1p-7f);
  EXPECT_TRUE(std::isinf(ToFloat(ToBf16(std::numeric_limits<float>::max()))));
}

TEST(DTypeTest, HalfPrecisionWidensExactly) {
  EXPECT_EQ(ToFloat(F16{0x3c00}), 1.0f);
  EXPECT_EQ(ToFloat(F16{0xc000}), -2.0f);
  EXPECT_EQ(ToFloat(F16{0x7bff}), 65504.0f);
  EXPECT_EQ(ToFloat(F16{0x0001}), 0x1p-24f);
  EXPECT_EQ(ToFloat(F16{0x83ff}), -0x3ffp-24f);
  EXPECT_TRUE(std::isinf(ToFloat(F16{0x7c00})));
  EXPECT_TRUE(std::isnan(ToFloat(F16{0x7e00})));
}

TEST(DTypeTest, EveryHalfSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float wide = ToFloat(F16{static_cast<uint16_t>(bits)});
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToF16(wide))));
    } else {
      EXPECT_EQ(ToF16(wide).bits, bits);
    }
  }
}

TEST(DTypeTest, HalfPrecisionRoundsToNearestEven) {
  // Between neighbours the middle goes to the even one, and anything off the middle to the nearer.
  for (uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = ToFloat(F16{bits});
    const float high = ToFloat(F16{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    EXPECT_EQ(ToF16(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(ToF16(std::nextafter(middle, 0.0f)).bits, bits);
    EXPECT_EQ(ToF16(-std::nextafter(middle, 1e6f)).bits, 0x8000 | (bits + 1));
  }
  EXPECT_EQ(ToF16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(ToF16(65520.0f).bits, 0x7c00);
}

TEST(TensorTest, HostMemoryIsAlignedAndZero) {
  const auto tensor = Tensor::AllocateHost(std::array<int64_t, 2>{3, 5}, DType::kF32);
  ASSERT_TRUE(tensor.ok());
  const TensorView view = tensor->view();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0u);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(view.as<float>()[i], 0.0f);
  EXPECT_EQ(tensor->num_bytes(), 60);
}

TEST(TensorTest, ImpossibleSizesAreRefusedWithTheirBytes) {
  const auto tensor =
      Tensor::AllocateHost(std::array<int64_t, 2>{1LL << 40, 1LL << 40}, DType::kF32);
  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(TensorTest, RowsAndColumnsShareTheMemory) {
  auto tensor = Tensor::AllocateHost(std::array<int64_t, 2>{4, 6}, DType::kI32);
  ASSERT_TRUE(tensor.ok());
  for (int i = 0; i < 24; ++i) tensor->view().as<int32_t>()[i] = i;
  const TensorView part = tensor->view().Rows(1, 2).Columns(2, 3);
  EXPECT_EQ(part.row<int32_t>(0)[0], 8);
  EXPECT_EQ(part.row<int32_t>(1)[2], 16);
  EXPECT_EQ(part.num_elements(), 6);
  EXPECT_FALSE(part.is_dense());
  EXPECT_TRUE(tensor->view().Reshape({2, 12}).is_dense());
}

TEST(Int8RowsTest, ARowIsRoundedToItsLargestElementOver127) {
  for (const int64_t k : {1, 3, 4, 77, 1024}) {
    const Tensor rows = AllocateInt8Rows(3, k).value();
    EXPECT_EQ(rows.num_bytes(), 3 * Int8RowStride(k));
    EXPECT_LT(Int8RowStride(k), k + 8);
    std::vector<float> from(k);
    for (int64_t i = 0; i < k; ++i) from[i] = 0.01f * std::sin(1.7f * static_cast<float>(i + 1));
    int8_t* const row = rows.view().row<int8_t>(1);
    QuantizeRow(from.data(), k, row);
    float largest = 0;
    for (const float x : from) largest = std::max(largest, std::abs(x));
    const float scale = Int8Scale(row, k);
    EXPECT_FLOAT_EQ(scale * 127, largest);
    for (int64_t i = 0; i < k; ++i) {
      EXPECT_LE(std::abs(scale * row[i] - from[i]), 0.5001f * scale) << i;
    }
    EXPECT_EQ(Int8Scale(rows.view().row<int8_t>(0), k), 0) << "neighbours are left alone";
    EXPECT_EQ(rows.view().row<int8_t>(2)[0], 0);
  }
}

TEST(Int8RowsTest, AZeroRowStaysZero) {
  const std::vector<float> zeros(5, 0.0f);
  std::vector<int8_t> row(Int8RowStride(5), 1);
  QuantizeRow(zeros.data(), 5, row.data());
  EXPECT_EQ(row, std::vector<int8_t>(row.size(), 0));
}

TEST(Int8RowsTest, AHeadsScaleIsABf16ThatNothingOverflows) {
  for (const int seed : {1, 2, 3}) {
    std::vector<double> from(64);
    for (size_t i = 0; i < from.size(); ++i) from[i] = std::sin(seed * 12.9 * double(i + 1)) * seed;
    std::vector<int8_t> to(64);
    const double scale = ToFloat(QuantizeHead(from.data(), 64, to.data()));
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT_LE(std::abs(scale * to[i] - from[i]), 0.5001 * scale);
    }
    const std::vector<float> narrow(from.begin(), from.end());
    std::vector<int8_t> same(64);
    EXPECT_EQ(ToFloat(QuantizeHead(narrow.data(), 64, same.data())), scale);
    EXPECT_EQ(same, to);
  }
  const std::vector<float> zeros(8, 0.0f);
  std::vector<int8_t> to(8, 1);
  EXPECT_EQ(ToFloat(QuantizeHead(zeros.data(), 8, to.data())), 0);
  EXPECT_EQ(to, std::vector<int8_t>(8, 0));
}

TEST(Int8RowsTest, AnInfinityOrNaNMakesTheScaleOfItsHeadNaN) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {kInfinity, -kInfinity, kNan, -kNan, 1e300}) {  // too large for a float
    for (const int64_t d : {1, 16, 37, 64}) {
      for (const int64_t i : {int64_t{0}, d / 2, d - 1}) {
        std::vector<double> from(d, 2.0);
        from[i] = bad;
        std::vector<int8_t> to(d, 1);
        EXPECT_TRUE(std::isnan(ToFloat(QuantizeHead(from.data(), d, to.data()))));
        EXPECT_EQ(to, std::vector<int8_t>(d, 0));
        const std::vector<float> narrow(from.begin(), from.end());
        EXPECT_TRUE(std::isnan(ToFloat(QuantizeHead(narrow.data(), d, to.data()))));
      }
    }
  }
}

TEST(Int8RowsTest, NumbersWhoseScaleHasNoInverseAreZero) {
  const std::vector<float> tiny = {0.0f, 1e-45f, -1e-40f, 3e-37f};
  std::vector<int8_t> to(4, 1);
  const double scale = ToFloat(QuantizeHead(tiny.data(), 4, to.data()));
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(scale * to[i], tiny[i], 127 * 1.2e-38);
  EXPECT_EQ(to[0], 0);
}

}  // namespace
}  // namespace mea
