#include "tests/simt/tensor_core.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace mea::simt {
namespace {

TEST(TensorCoreTest, AddendsAreCutToTheBitsOfTheLargest) {
  const auto sum = [](float d, std::vector<float> products) {
    products.resize(16);
    const std::vector<float> ones(16, 1.0f);
    AddTensorCoreProducts(products.data(), ones.data(), 1, &d);
    return d;
  };
  EXPECT_EQ(sum(1.0f, {0x1p-23f}), 1.0f + 0x1p-23f);
  EXPECT_EQ(sum(1.0f, {0x1p-24f, 0x1p-24f}), 1.0f);  // in F32 the two are worth a bit
  EXPECT_EQ(sum(-1.0f, {-0x1.8p-23f}), -1.0f - 0x1p-23f);
  EXPECT_EQ(sum(0.0f, {0x1.8p+1f, 0x1p-22f, 0x1p-23f}), 3.0f + 0x1p-22f);
  EXPECT_EQ(sum(0x1.fffffep+0f, {0x1.fffffep+0f, 0x1p-23f}), 0x1.fffffep+1f);  // the sum as well
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sum(1.0f, {inf}), inf);
  EXPECT_TRUE(std::isnan(sum(inf, {-inf})));
  EXPECT_TRUE(std::isnan(sum(1.0f, {std::numeric_limits<float>::quiet_NaN()})));
}

}  // namespace
}  // namespace mea::simt
