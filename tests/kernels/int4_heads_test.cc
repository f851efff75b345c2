#include "kernels/int4_heads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mea {
namespace {

std::vector<float> NormalHead(int64_t d, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(d);
  for (float& element : x) element = normal(generator);
  return x;
}

// The integers as numbers again, rotated back.
std::vector<float> Widened(const std::vector<uint8_t>& integers, Int4HeadScale scale) {
  std::vector<float> x;
  for (const uint8_t q : integers) {
    x.push_back(ToFloat(scale.scale) * static_cast<float>(q) + ToFloat(scale.zero));
  }
  RotateHadamard(x.data(), std::ssize(x));
  return x;
}

double SquaredDistance(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += std::pow(double{x[i]} - y[i], 2);
  return sum;
}

std::vector<float> RoundTrip(const std::vector<float>& x) {
  std::vector<uint8_t> integers(x.size());
  const Int4HeadScale scale = QuantizeInt4Head(x.data(), std::ssize(x), integers.data());
  return Widened(integers, scale);
}

TEST(RotateHadamardTest, KeepsProductsAndUndoesItself) {
  for (const int64_t d : {2, 8, 24, 64, 80, 96, 128, 1024}) {
    std::vector<double> x(d), y(d);
    for (int64_t i = 0; i < d; ++i) {
      x[i] = std::sin(static_cast<double>(i));
      y[i] = std::cos(static_cast<double>(3 * i));
    }
    const auto dot = [&] {
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += x[i] * y[i];
      return sum;
    };
    const std::vector<double> before = x;
    const double product = dot();
    RotateHadamard(x.data(), d);
    RotateHadamard(y.data(), d);
    EXPECT_NEAR(dot(), product, 1e-12 * static_cast<double>(d));
    RotateHadamard(x.data(), d);
    for (int64_t i = 0; i < d; ++i) EXPECT_NEAR(x[i], before[i], 1e-13) << d;
  }
}

TEST(RotateHadamardTest, SpreadsAnElementOverItsPowerOfTwo) {
  std::vector<float> x(96, 0.0f);  // 64 and 32
  x[70] = 1;
  RotateHadamard(x.data(), 96);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(x[i], 0) << i;
  for (int i = 64; i < 96; ++i) EXPECT_FLOAT_EQ(std::abs(x[i]), 1 / std::sqrt(32.0f)) << i;
}

TEST(Int4HeadsTest, NoElementIsFurtherFromItsIntegerThanHalfAStep) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const int64_t d = 2 * static_cast<int64_t>(seed);
    std::vector<float> x = NormalHead(d, seed);
    for (float& element : x) element += seed % 3 == 0 ? 100.0f : seed % 3 == 1 ? -7.0f : 0.0f;
    std::vector<uint8_t> integers(d);
    const auto [scale, zero] = QuantizeInt4Head(x.data(), d, integers.data());
    RotateHadamard(x.data(), d);
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    EXPECT_LE(ToFloat(zero), *low);
    // BF16 moves the zero by at most 2^-7 of it, and the scale by as much of itself.
    EXPECT_LE(ToFloat(scale), (*high - *low + std::abs(*low) / 128) / 15 * (1 + 1.0f / 128));
    for (int64_t i = 0; i < d; ++i) {
      const float widened = ToFloat(scale) * static_cast<float>(integers[i]) + ToFloat(zero);
      EXPECT_LE(std::abs(widened - x[i]), 0.5001f * ToFloat(scale)) << seed << " " << i;
    }
  }
}

TEST(Int4HeadsTest, FloatsAndDoublesBecomeTheSameIntegers) {
  const std::vector<float> x = NormalHead(128, 5);
  const std::vector<double> wide(x.begin(), x.end());
  std::vector<uint8_t> integers(128), of_wide(128);
  const Int4HeadScale scale = QuantizeInt4Head(x.data(), 128, integers.data());
  const Int4HeadScale scale_of_wide = QuantizeInt4Head(wide.data(), 128, of_wide.data());
  EXPECT_EQ(integers, of_wide);
  EXPECT_EQ(scale.scale.bits, scale_of_wide.scale.bits);
  EXPECT_EQ(scale.zero.bits, scale_of_wide.zero.bits);
}

TEST(Int4HeadsTest, AnOutlierCostsLittle) {
  std::vector<float> x = NormalHead(64, 1);
  const double without = SquaredDistance(RoundTrip(x), x);
  x[17] = 12;
  // Unrotated, the outlier alone would make every step four times as long.
  EXPECT_LE(SquaredDistance(RoundTrip(x), x), 4 * without);
}

TEST(Int4HeadsTest, EqualAndTinyElementsAreKept) {
  for (const float value : {0.0f, 1.5f, -3.0f, 1e-40f, -1e-40f}) {
    const std::vector<float> x(64, value);  // rotated, one element and zeros
    // Below the smallest normal float a scale counts as zero.
    EXPECT_LE(std::sqrt(SquaredDistance(RoundTrip(x), x)), std::max(std::abs(value) / 2, 1e-37f));
  }
}

TEST(Int4HeadsTest, WhatIsNotFiniteOrOverflowsMakesTheScaleNaN) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::max(), -3e38f}) {
    for (const int64_t d : {24, 64}) {
      for (const int64_t at : {int64_t{0}, d - 1}) {
        std::vector<float> x = NormalHead(d, 3);
        x[at] = value;
        x[at ^ 1] = value;  // so that finite ones overflow
        std::vector<uint8_t> integers(d, 99);
        const auto [scale, zero] = QuantizeInt4Head(x.data(), d, integers.data());
        EXPECT_TRUE(std::isnan(ToFloat(scale)) && std::isnan(ToFloat(zero))) << value << " " << at;
        EXPECT_EQ(integers, std::vector<uint8_t>(d, 0));
      }
    }
  }
}

TEST(Int4HeadsTest, APackedHeadIsWhatTheHeaderSays) {
  for (const int64_t d : {24, 64, 80}) {
    std::vector<uint8_t> integers(d);
    for (int64_t i = 0; i < d; ++i) integers[i] = static_cast<uint8_t>(i * 7 % 16);
    std::vector<Int4Pair> pairs(KvHeadElements(d, DType::kI4), Int4Pair{0xff});
    PackInt4Head(integers.data(), d, pairs.data());
    for (int64_t i = 0; i < std::ssize(pairs) * 2; ++i) {
      const int bits = pairs[i / 32 * 16 + i % 16].bits;
      EXPECT_EQ(i % 32 < 16 ? bits & 15 : bits >> 4, i < d ? integers[i] : 0) << d << " " << i;
    }
  }
}

}  // namespace
}  // namespace mea
