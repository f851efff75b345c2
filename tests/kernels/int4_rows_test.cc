#include "kernels/int4_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace mea {
namespace {

double SquaredError(const std::vector<float>& x, int group) {
  const auto k = std::ssize(x);
  const Tensor rows = AllocateInt4Rows(1, k, {.group = group}).value();
  QuantizeInt4Row(x.data(), k, group, rows.view().row<Int4Pair>(0));
  std::vector<double> widened(k);
  WidenInt4Row(rows.view(), 0, widened.data());
  double error = 0;
  for (int64_t i = 0; i < k; ++i) error += (widened[i] - x[i]) * (widened[i] - x[i]);
  return error;
}

std::vector<float> NormalNumbers(int64_t count, uint64_t seed, float scale = 1) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(count);
  for (float& element : x) element = normal(generator);
  return x;
}

TEST(Int4RowsTest, ARowIsWhatItsHeaderSays) {
  for (const int group : {32, 64, 128}) {
    const int64_t k = 200;
    const Tensor rows = AllocateInt4Rows(3, k, {.group = group}).value();
    EXPECT_EQ(rows.num_bytes(), 3 * Int4RowStride(k, group));
    EXPECT_EQ(Int4RowStride(k, group), 7 * 16 + (k + group - 1) / group * 4 + 4);
    std::vector<uint8_t> integers(k);
    for (int64_t i = 0; i < k; ++i) integers[i] = static_cast<uint8_t>(i * 7 % 16);
    std::vector<Int4Group> groups;
    for (int64_t g = 0; g < Int4Groups(k, group); ++g) {
      groups.push_back(
          {.scale = ToF16(0.5f + static_cast<float>(g)), .zero = static_cast<int16_t>(16 - g)});
    }
    StoreInt4Row(integers, groups, 4, rows.view().row<Int4Pair>(1));
    std::vector<float> widened(k);
    WidenInt4Row(rows.view(), 1, widened.data());
    for (int64_t i = 0; i < k; ++i) {
      const auto g = static_cast<float>(i / group);
      EXPECT_EQ(widened[i], 4 * (0.5f + g) * (static_cast<float>(integers[i]) - (16 - g))) << i;
    }
    for (const int64_t neighbour : {0, 2}) {
      const Int4Pair* const row = rows.view().row<Int4Pair>(neighbour);
      EXPECT_TRUE(std::all_of(row, row + Int4RowStride(k, group),
                              [](Int4Pair pair) { return pair.bits == 0; }));
    }
  }
}

TEST(Int4RowsTest, AnOrderSaysWhereElementsBelong) {
  const Tensor rows = AllocateInt4Rows(1, 4, {.group = 32, .order = {2, 0, 3, 1}}).value();
  const std::vector<uint8_t> integers = {1, 2, 3, 4};
  const std::vector<Int4Group> groups = {{.scale = ToF16(1), .zero = 0}};
  StoreInt4Row(integers, groups, 1, rows.view().row<Int4Pair>(0));
  std::vector<float> widened(4);
  WidenInt4Row(rows.view(), 0, widened.data());
  EXPECT_EQ(widened, (std::vector<float>{2, 4, 1, 3}));
}

TEST(Int4RowsTest, NumbersOnAGridOfSixteenAreKept) {
  std::vector<float> x(128);
  for (int i = 0; i < 128; ++i) x[i] = 0.25f * static_cast<float>(i * 5 % 16 - 3);
  EXPECT_EQ(SquaredError(x, 64), 0);
}

// The whole range in fifteen steps is one of the candidates' neighbours, so the search is never
// worse by more than its own rounding, and better on average.
TEST(Int4RowsTest, TheSearchLeavesLessThanTheWholeRange) {
  double searched = 0, plain = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const std::vector<float> x = NormalNumbers(64, seed);
    searched += SquaredError(x, 64);
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const float step = (*high - *low) / 15;
    const float zero = std::nearbyint(-*low / step);
    for (const float element : x) {
      const float q = std::clamp(std::nearbyint(element / step + zero), 0.0f, 15.0f);
      plain += std::pow(element - step * (q - zero), 2);
    }
  }
  EXPECT_LT(searched, 0.9 * plain);
  EXPECT_GT(searched, 0.5 * plain);
}

TEST(Int4RowsTest, TheErrorScalesWithTheRowDownToTheTiniest) {
  const double whole = SquaredError(NormalNumbers(64, 1), 64);
  for (const float scale : {1e-30f, 1e-12f, 1e-4f, 1e12f, 1e30f}) {
    EXPECT_NEAR(SquaredError(NormalNumbers(64, 1, scale), 64) / scale / scale, whole, 0.05 * whole)
        << scale;
  }
}

// A group that is much smaller than its row is not rounded away.
TEST(Int4RowsTest, AnOutlierCoarsensItsGroupAlone) {
  std::vector<float> x = NormalNumbers(128, 1);
  const double before = SquaredError({x.begin() + 64, x.end()}, 64);
  x[3] = 3000;
  std::fill_n(x.begin(), 64, 0.0f);
  x[3] = 3000;
  EXPECT_NEAR(SquaredError(x, 64), before, 0.05 * before + 1e-3);
}

TEST(Int4RowsTest, AZeroRowStaysZero) {
  EXPECT_EQ(SquaredError(std::vector<float>(70, 0.0f), 32), 0);
  EXPECT_EQ(SquaredError(std::vector<float>(70, -0.0f), 32), 0);
}

}  // namespace
}  // namespace mea
