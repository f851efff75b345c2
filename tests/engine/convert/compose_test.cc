#include "engine/convert/compose.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/convert/eigen.h"
#include "engine/convert/layer_weights.h"
#include "engine/convert/problems.h"
#include "engine/convert/random.h"

namespace mea::convert {
namespace {

constexpr int kHeads = 6;
constexpr int kHeadDim = 4;
constexpr int kHidden = 40;

Matrix RandomMatrix(int64_t rows, int64_t cols, Random& random) {
  Matrix matrix(rows, cols);
  for (double& value : matrix.values) value = random.Gaussian();
  return matrix;
}

ModelConfig Config() {
  ModelConfig config;
  config.q_heads = 2 * kHeads;
  config.kv_heads = kHeads;
  config.head_dim = kHeadDim;
  return config;
}

LayerMatrices RandomWeights(uint64_t seed) {
  Random random(seed);
  LayerMatrices w;
  w.q = RandomMatrix(2 * kHeads * kHeadDim, kHidden, random);
  w.k = RandomMatrix(kHeads * kHeadDim, kHidden, random);
  w.v = RandomMatrix(kHeads * kHeadDim, kHidden, random);
  w.o = RandomMatrix(kHidden, 2 * kHeads * kHeadDim, random);
  w.k_bias = RandomMatrix(kHeads * kHeadDim, 1, random);
  w.v_bias = RandomMatrix(kHeads * kHeadDim, 1, random);
  return w;
}

// Queries that do not care for all frequencies alike.
void SetWeights(KeyProblem& problem, uint64_t seed) {
  Random random(seed);
  for (double& weight : problem.weight.values) weight = std::exp(random.Gaussian());
}

double MaxDifference(const Matrix& a, const Matrix& b) {
  return (AsEigen(a) - AsEigen(b)).cwiseAbs().maxCoeff();
}

// Appendix F as it is written: heads as columns of a (d Dim) x h matrix, its SVD cut to h'.
Matrix CutBySvd(const Matrix& weights, const Matrix& bias, int components) {
  const int64_t cols = weights.cols + 1;
  Eigen::MatrixXd columns(kHeadDim * cols, kHeads);
  for (int j = 0; j < kHeads; ++j) {
    for (int i = 0; i < kHeadDim; ++i) {
      for (int64_t x = 0; x < cols; ++x) {
        const int64_t row = j * kHeadDim + i;
        columns(i * cols + x, j) = x < weights.cols ? weights(row, x) : bias(row, 0);
      }
    }
  }
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(columns, Eigen::ComputeThinU | Eigen::ComputeThinV);
  Eigen::VectorXd kept = svd.singularValues();
  kept.tail(kHeads - components).setZero();
  const Eigen::MatrixXd cut = svd.matrixU() * kept.asDiagonal() * svd.matrixV().transpose();
  Matrix out(weights.rows, weights.cols);
  for (int j = 0; j < kHeads; ++j) {
    for (int i = 0; i < kHeadDim; ++i) {
      for (int64_t x = 0; x < weights.cols; ++x) out(j * kHeadDim + i, x) = cut(i * cols + x, j);
    }
  }
  return out;
}

TEST(ComposeTest, SvdOfTheGramMatrixIsThePapersSvd) {
  const LayerMatrices w = RandomWeights(1);
  for (const int components : {1, 3, kHeads}) {
    SCOPED_TRACE(components);
    const KeyComposition keys = ComposeKeysBySvd(MakeKeyProblem(Config(), w, nullptr), components);
    EXPECT_LT(MaxDifference(ExpandKeys(w.k, kHeadDim, keys), CutBySvd(w.k, w.k_bias, components)),
              1e-11);
    const ValueComposition values =
        ComposeValuesBySvd(MakeValueProblem(Config(), w, nullptr), components);
    EXPECT_LT(
        MaxDifference(ExpandValues(w.v, kHeadDim, values), CutBySvd(w.v, w.v_bias, components)),
        1e-11);
  }
}

TEST(ComposeTest, ErrorsAreThoseOfTheExpandedHeads) {
  const LayerMatrices w = RandomWeights(2);
  KeyProblem keys = MakeKeyProblem(Config(), w, nullptr);
  SetWeights(keys, 3);
  const KeyComposition key_composition = AlignKeys(keys, 3, {.max_sweeps = 3});
  Matrix lost = ExpandKeys(w.k, kHeadDim, key_composition);
  Matrix lost_bias = ExpandKeys(w.k_bias, kHeadDim, key_composition);
  double error = 0;
  double energy = 0;
  for (int64_t row = 0; row < w.k.rows; ++row) {
    const int64_t f = row % kHeadDim % (kHeadDim / 2);
    const double weight = keys.weight(row / kHeadDim, f);
    for (int64_t x = 0; x < kHidden; ++x) {
      error += weight * std::pow(w.k(row, x) - lost(row, x), 2);
      energy += weight * std::pow(w.k(row, x), 2);
    }
    error += weight * std::pow(w.k_bias(row, 0) - lost_bias(row, 0), 2);
    energy += weight * std::pow(w.k_bias(row, 0), 2);
  }
  EXPECT_NEAR(KeyError(keys, key_composition), error / energy, 1e-11);

  const ValueProblem values = MakeValueProblem(Config(), w, nullptr);
  const ValueComposition value_composition = AlignValues(values, 3, {.max_sweeps = 3});
  const Matrix kept = ExpandValues(w.v, kHeadDim, value_composition);
  const Matrix kept_bias = ExpandValues(w.v_bias, kHeadDim, value_composition);
  error = energy = 0;
  for (int i = 0; i < 2 * kHeads; ++i) {
    const auto o = AsEigen(w.o).middleCols(i * kHeadDim, kHeadDim);
    const int64_t first = i / 2 * kHeadDim;
    const auto head = [&](const Matrix& m) { return AsEigen(m).middleRows(first, kHeadDim); };
    error += (o * (head(w.v) - head(kept))).squaredNorm() +
             (o * (head(w.v_bias) - head(kept_bias))).squaredNorm();
    energy += (o * head(w.v)).squaredNorm() + (o * head(w.v_bias)).squaredNorm();
  }
  EXPECT_NEAR(ValueError(values, value_composition), error / energy, 1e-11);
}

TEST(ComposeTest, AlignmentNeverRisesAndEndsBelowTheSvd) {
  for (const KeyFreedom freedom :
       {KeyFreedom::kComplex, KeyFreedom::kRotation, KeyFreedom::kSign}) {
    SCOPED_TRACE(static_cast<int>(freedom));
    KeyProblem keys = MakeKeyProblem(Config(), RandomWeights(4), nullptr);
    keys.freedom.assign(kHeadDim / 2, freedom);
    SetWeights(keys, 5);
    std::vector<double> errors;
    const KeyComposition aligned = AlignKeys(keys, 3, {}, &errors);
    for (size_t i = 1; i < errors.size(); ++i) EXPECT_LE(errors[i], errors[i - 1] + 1e-12);
    const double error = KeyError(keys, aligned);
    EXPECT_LE(error, errors.back() + 1e-9);
    EXPECT_LT(error, KeyError(keys, ComposeKeysBySvd(keys, 3)));
  }
  const ValueProblem values = MakeValueProblem(Config(), RandomWeights(4), nullptr);
  std::vector<double> errors;
  const ValueComposition aligned = AlignValues(values, 3, {}, &errors);
  for (size_t i = 1; i < errors.size(); ++i) EXPECT_LE(errors[i], errors[i - 1] + 1e-12);
  const double error = ValueError(values, aligned);
  EXPECT_LE(error, errors.back() + 1e-9);
  EXPECT_LT(error, ValueError(values, ComposeValuesBySvd(values, 3)));
}

TEST(ComposeTest, TurnsStayWithinWhatIsFree) {
  KeyProblem keys = MakeKeyProblem(Config(), RandomWeights(6), nullptr);
  SetWeights(keys, 7);
  keys.freedom = {KeyFreedom::kSign, KeyFreedom::kRotation};
  const KeyComposition aligned = AlignKeys(keys, 3);
  for (int j = 0; j < kHeads; ++j) {
    EXPECT_EQ(std::abs(aligned.rotation(j, 0).real()), 1.0);
    EXPECT_EQ(aligned.rotation(j, 0).imag(), 0.0);
    EXPECT_NEAR(std::abs(aligned.rotation(j, 1)), 1.0, 1e-14);
  }
}

// Heads that are nothing but two components, rotated: alignment must find that, the SVD cannot.
TEST(ComposeTest, PlantedKeysAreFound) {
  Random random(8);
  const Matrix components = RandomMatrix(2 * kHeadDim, kHidden, random);
  KeyComposition planted;
  planted.mix = RandomMatrix(2, kHeads, random);
  planted.combine.assign(kHeadDim / 2, ComplexMatrix(2, 2));
  for (ComplexMatrix& m : planted.combine) m(0, 0) = m(1, 1) = 1;
  planted.rotation = ComplexMatrix(kHeads, kHeadDim / 2);
  for (Complex& rotation : planted.rotation.values)
    rotation = {random.Gaussian(), random.Gaussian()};
  LayerMatrices w = RandomWeights(9);
  w.k = ExpandKeys(components, kHeadDim, planted);
  w.k_bias = {};
  const KeyProblem problem = MakeKeyProblem(Config(), w, nullptr);
  EXPECT_LT(KeyError(problem, AlignKeys(problem, 2, {.max_sweeps = 2000})), 1e-6);
  EXPECT_GT(KeyError(problem, ComposeKeysBySvd(problem, 2)), 0.05);
}

TEST(ComposeTest, PlantedValuesAreFound) {
  Random random(10);
  LayerMatrices w = RandomWeights(11);
  const Matrix components = RandomMatrix(2 * kHeadDim, kHidden, random);
  const Matrix mix = RandomMatrix(2, kHeads, random);
  for (int j = 0; j < kHeads; ++j) {
    const Matrix basis = RandomMatrix(kHeadDim, kHeadDim, random);
    AsEigen(w.v).middleRows(j * kHeadDim, kHeadDim) =
        AsEigen(basis) * (mix(0, j) * AsEigen(components).topRows(kHeadDim) +
                          mix(1, j) * AsEigen(components).bottomRows(kHeadDim));
  }
  w.v_bias = {};
  const ValueProblem problem = MakeValueProblem(Config(), w, nullptr);
  EXPECT_LT(ValueError(problem, AlignValues(problem, 2, {.max_sweeps = 2000})), 1e-6);
  EXPECT_GT(ValueError(problem, ComposeValuesBySvd(problem, 2)), 0.05);
}

TEST(ComposeTest, HeadsThatAreAlikeOrZeroAreNoTrouble) {
  LayerMatrices w = RandomWeights(12);
  for (int64_t i = 0; i < kHeadDim; ++i) {
    for (int64_t x = 0; x < kHidden; ++x) {
      w.k(kHeadDim + i, x) = w.k(i, x);
      w.v(kHeadDim + i, x) = w.v(i, x);
      w.k(2 * kHeadDim + i, x) = w.v(2 * kHeadDim + i, x) = 0;
    }
  }
  w.k_bias = w.v_bias = {};
  const KeyProblem keys = MakeKeyProblem(Config(), w, nullptr);
  const ValueProblem values = MakeValueProblem(Config(), w, nullptr);
  for (const int components : {kHeads - 2, kHeads}) {
    EXPECT_LT(KeyError(keys, ComposeKeysBySvd(keys, components)), 1e-12);
    EXPECT_LT(KeyError(keys, AlignKeys(keys, components)), 1e-9);
    EXPECT_LT(ValueError(values, ComposeValuesBySvd(values, components)), 1e-12);
    EXPECT_LT(ValueError(values, AlignValues(values, components)), 1e-9);
  }
}

TEST(ComposeTest, TheSameSeedGivesTheSameComposition) {
  const KeyProblem keys = MakeKeyProblem(Config(), RandomWeights(13), nullptr);
  EXPECT_EQ(AlignKeys(keys, 2).mix, AlignKeys(keys, 2).mix);
  const ValueProblem values = MakeValueProblem(Config(), RandomWeights(13), nullptr);
  EXPECT_EQ(AlignValues(values, 2).combine, AlignValues(values, 2).combine);
}

}  // namespace
}  // namespace mea::convert
