#include "engine/eval/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mea {
namespace {

TEST(DivergenceTest, IsThatOfTheSoftmaxes) {
  const std::vector<float> plain = {1, 2, 3};
  const std::vector<float> other = {5, 2, 1};
  double z[2] = {};
  for (int i = 0; i < 3; ++i) {
    z[0] += std::exp(plain[i]);
    z[1] += std::exp(other[i]);
  }
  double kl = 0;
  for (int i = 0; i < 3; ++i) {
    const double p = std::exp(plain[i]) / z[0];
    kl += p * std::log(p / (std::exp(other[i]) / z[1]));
  }
  const TokenDivergence found = Diverge(plain, other, 1);
  EXPECT_NEAR(found.kl, kl, 1e-6);
  EXPECT_NEAR(found.loss, -std::log(std::exp(2) / z[1]), 1e-6);
  EXPECT_FALSE(found.same_top1);
  // What all logits have in common changes nothing.
  const TokenDivergence shifted = Diverge(plain, std::vector<float>{11, 12, 13}, 1);
  EXPECT_NEAR(shifted.kl, 0, 1e-5);
  EXPECT_TRUE(shifted.same_top1);
}

}  // namespace
}  // namespace mea
