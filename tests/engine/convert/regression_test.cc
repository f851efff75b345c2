#include "engine/convert/regression.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/convert/eigen.h"

namespace mea::convert {
namespace {

constexpr int kIn = 300;  // more than a panel
constexpr int kOut = 70;
constexpr int kRows = 1200;

class RegressionTest : public ::testing::Test {
 protected:
  RegressionTest() : x_(kRows * kIn), y_(kRows * kOut), z_(kRows), prior_(kOut, kIn) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& x : x_) x = normal(random);
    for (float& z : z_) z = 0.5f + std::abs(normal(random));
    for (float& y : y_) y = normal(random);
    for (double& w : prior_.values) w = normal(random);
  }

  TensorView X(int first, int count) {
    return TensorView::Dense(x_.data(), DType::kF32, {kRows, kIn}).Rows(first, count);
  }
  TensorView Y(int first, int count) {
    return TensorView::Dense(y_.data(), DType::kF32, {kRows, kOut}).Rows(first, count);
  }

  Matrix Solve(double ridge, int num_threads) {
    const auto backend = CreateCpuBackend({.num_threads = num_threads}).value();
    Regression sums(backend.get(), kIn, kOut);
    // In uneven pieces, as texts are.
    for (int first = 0, count = 0; first < kRows; first += count) {
      count = std::min(kRows - first, 500 + first / 3);
      sums.Add(X(first, count), Y(first, count), std::span(z_).subspan(first, count));
    }
    return std::move(sums).Solve(prior_, ridge, num_threads);
  }

  std::vector<float> x_, y_, z_;
  Matrix prior_;
};

TEST_F(RegressionTest, IsTheSolutionOfTheNormalEquations) {
  const double ridge = 0.2;
  const Eigen::MatrixXd x = Eigen::Map<const RowMajor<float>>(x_.data(), kRows, kIn).cast<double>();
  const Eigen::MatrixXd y =
      Eigen::Map<const RowMajor<float>>(y_.data(), kRows, kOut).cast<double>();
  const Eigen::VectorXd z2 =
      Eigen::Map<const Eigen::VectorXf>(z_.data(), kRows).cast<double>().array().square();
  Eigen::MatrixXd gram = x.transpose() * z2.asDiagonal() * x;
  const double added = ridge * gram.diagonal().mean();
  gram.diagonal().array() += added;
  const Eigen::MatrixXd right =
      x.transpose() * z2.asDiagonal() * y + added * AsEigen(prior_).transpose();
  const Eigen::MatrixXd expected = gram.ldlt().solve(right).transpose();
  const Matrix found = Solve(ridge, 1);
  EXPECT_LT((AsEigen(found) - expected).cwiseAbs().maxCoeff(), 1e-5);
}

TEST_F(RegressionTest, APriorThatIsRightStays) {
  const Eigen::MatrixXd y =
      Eigen::Map<const RowMajor<float>>(x_.data(), kRows, kIn).cast<double>() *
      AsEigen(prior_).transpose();
  Eigen::Map<RowMajor<float>>(y_.data(), kRows, kOut) = y.cast<float>();
  for (const double ridge : {1e-6, 0.1, 10.0}) {
    EXPECT_LT((AsEigen(Solve(ridge, 1)) - AsEigen(prior_)).cwiseAbs().maxCoeff(), 1e-5) << ridge;
  }
}

TEST_F(RegressionTest, ThreadsChangeNoBit) { EXPECT_EQ(Solve(0.03, 1), Solve(0.03, 3)); }

TEST_F(RegressionTest, InputsThatAreNeverSeenKeepThePrior) {
  for (int t = 0; t < kRows; ++t) x_[t * kIn + 5] = 0;
  const Matrix found = Solve(0.03, 1);
  for (int o = 0; o < kOut; ++o) EXPECT_NEAR(found(o, 5), prior_(o, 5), 1e-9);
}

}  // namespace
}  // namespace mea::convert
