#include "engine/convert/pivot.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/convert/random.h"

namespace mea::convert {
namespace {

Matrix RandomMix(int components, int heads, uint64_t seed) {
  Random random(seed);
  Matrix mix(components, heads);
  for (double& value : mix.values) value = random.Gaussian();
  return mix;
}

// W' has exact unit columns, rising, and W_S W' is W.
void ExpectPivotForm(const Matrix& mix, const Pivots& pivots) {
  ASSERT_EQ(std::ssize(pivots.heads), mix.rows);
  for (int64_t c = 0; c < mix.rows; ++c) {
    if (c > 0) {
      EXPECT_LT(pivots.heads[c - 1], pivots.heads[c]);
    }
    for (int64_t k = 0; k < mix.rows; ++k) {
      const double entry = pivots.mix(k, pivots.heads[c]);
      EXPECT_EQ(entry, k == c ? 1.0 : 0.0);
      EXPECT_FALSE(std::signbit(entry));
    }
  }
  for (int64_t j = 0; j < mix.cols; ++j) {
    for (int64_t k = 0; k < mix.rows; ++k) {
      double entry = 0;
      for (int64_t c = 0; c < mix.rows; ++c) entry += mix(k, pivots.heads[c]) * pivots.mix(c, j);
      EXPECT_NEAR(entry, mix(k, j), 1e-11);
    }
  }
  EXPECT_LE(pivots.form.largest_entry, 1.05);
}

TEST(PivotTest, ComponentsAreHeadsAndEntriesAreBounded) {
  for (const int heads : {1, 2, 4, 8, 12, 32}) {
    for (int components = 1; components <= heads; components += heads > 8 ? 5 : 1) {
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        SCOPED_TRACE(::testing::Message() << components << " of " << heads << ", seed " << seed);
        const Matrix mix = RandomMix(components, heads, seed);
        const Pivots pivots = ChoosePivots(mix);
        ExpectPivotForm(mix, pivots);
        EXPECT_GE(pivots.form.condition, 1.0 - 1e-12);
        EXPECT_LT(pivots.form.condition, 1e6);
      }
    }
  }
}

// The determinant of their columns is the largest of all choices, but for what the bound allows.
TEST(PivotTest, OneComponentIsTheHeadThatUsesItMost) {
  const Pivots pivots = ChoosePivots({Matrix(1, 4)});
  EXPECT_EQ(pivots.heads.size(), 1u);  // of nothing at all, any
  Matrix mix(1, 4);
  mix.values = {0.5, -3, 2, 0};
  const Pivots chosen = ChoosePivots(mix);
  EXPECT_EQ(chosen.heads, std::vector<int>{1});
  EXPECT_EQ(chosen.mix.values, (std::vector<double>{0.5 / -3, 1, 2 / -3.0, 0}));
  EXPECT_EQ(chosen.form.condition, 1);
}

TEST(PivotTest, SwapsEnlargeWhatEliminationFound) {
  // Elimination takes the column of the 3 first; beside it every other spans less than columns 1
  // and 2 do together.
  Matrix mix(2, 3);
  mix.values = {3, 2.9, 2.9, 0, 2.9, -2.9};
  const Pivots pivots = ChoosePivots(mix);
  EXPECT_EQ(pivots.heads, (std::vector<int>{1, 2}));
  ExpectPivotForm(mix, pivots);
}

TEST(PivotTest, AllHeadsGiveTheIdentity) {
  for (const int heads : {1, 3, 8}) {
    const Pivots pivots = ChoosePivots(RandomMix(heads, heads, 4));
    for (int c = 0; c < heads; ++c) {
      EXPECT_EQ(pivots.heads[c], c);
      for (int j = 0; j < heads; ++j) EXPECT_EQ(pivots.mix(c, j), c == j ? 1.0 : 0.0);
    }
  }
}

TEST(PivotTest, UnusedComponentsAndHeadsThatDependAreNoTrouble) {
  Matrix unused = RandomMix(4, 6, 5);
  for (int j = 0; j < 6; ++j) unused(2, j) = 0;
  Matrix alike = RandomMix(3, 6, 6);  // of rank 2
  for (int j = 0; j < 6; ++j) alike(2, j) = 2 * alike(0, j) - alike(1, j);
  Matrix absent = RandomMix(3, 6, 7);  // heads 1 and 4 are zero, and only two others differ
  for (int c = 0; c < 3; ++c) {
    absent(c, 1) = absent(c, 4) = 0;
    absent(c, 3) = absent(c, 5) = absent(c, 0);
  }
  for (const Matrix& mix : {unused, alike, absent, Matrix(3, 5)}) {
    const Pivots pivots = ChoosePivots(mix);
    ExpectPivotForm(mix, pivots);
  }
  EXPECT_EQ(ChoosePivots(unused).form.condition, INFINITY);
  EXPECT_EQ(ChoosePivots(alike).form.condition, INFINITY);
}

TEST(PivotTest, AMixInPivotFormStays) {
  const Matrix mix = ChoosePivots(RandomMix(5, 12, 8)).mix;
  const Pivots again = ChoosePivots(mix);
  EXPECT_EQ(again.mix, mix);
  EXPECT_EQ(again.form.condition, 1);
}

}  // namespace
}  // namespace mea::convert
