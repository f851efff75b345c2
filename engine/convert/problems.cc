#include "engine/convert/problems.h"

#include <algorithm>

#include "engine/convert/eigen.h"

namespace mea::convert {
namespace {

// The text is a sample, so directions that it never shows get this share of the weight of the
// others.
constexpr double kShrinkage = 1e-4;

// [F] of [h, h]: sums over the columns of k, and of its bias, of k_jf conj(k_kf).
std::vector<ComplexMatrix> KeyGram(const LayerMatrices& weights, int heads, int head_dim) {
  const int half = head_dim / 2;
  std::vector<ComplexMatrix> grams;
  const auto add = [&](const Matrix& k, int f, Eigen::MatrixXcd& gram) {
    if (k.empty()) return;
    RowMajor<Complex> pairs(heads, k.cols);
    for (int64_t j = 0; j < heads; ++j) {
      pairs.row(j).real() = AsEigen(k).row(j * head_dim + f);
      pairs.row(j).imag() = AsEigen(k).row(j * head_dim + f + half);
    }
    gram += pairs * pairs.adjoint();
  };
  for (int f = 0; f < half; ++f) {
    Eigen::MatrixXcd gram = Eigen::MatrixXcd::Zero(heads, heads);
    add(weights.k, f, gram);
    add(weights.k_bias, f, gram);
    grams.push_back(FromEigen(gram));
  }
  return grams;
}

Matrix ValueGram(const LayerMatrices& weights) {
  Eigen::MatrixXd gram = AsEigen(weights.v) * AsEigen(weights.v).transpose();
  if (!weights.v_bias.empty()) {
    gram += AsEigen(weights.v_bias) * AsEigen(weights.v_bias).transpose();
  }
  return FromEigen(gram);
}

double Trace(const std::vector<ComplexMatrix>& grams) {
  double trace = 0;
  for (const ComplexMatrix& gram : grams) trace += AsEigen(gram).trace().real();
  return trace;
}

// With QK-norm the gain of the keys scales an error, at either element of a pair.
double GainEnergy(const LayerMatrices& weights, int f, int head_dim) {
  if (weights.k_norm.empty()) return 1;
  const double first = weights.k_norm[f];
  const double second = weights.k_norm[f + head_dim / 2];
  return (first * first + second * second) / 2;
}

KeyFreedom FreedomAt(const LayerMatrices& weights, int f, int head_dim) {
  if (weights.k_norm.empty()) return KeyFreedom::kComplex;
  const int partner = f + head_dim / 2;
  const bool same =
      weights.k_norm[f] == weights.k_norm[partner] && weights.q_norm[f] == weights.q_norm[partner];
  return same ? KeyFreedom::kRotation : KeyFreedom::kSign;
}

}  // namespace

KeyProblem MakeKeyProblem(const ModelConfig& config, const LayerMatrices& weights,
                          const HeadStatistics* statistics) {
  const int d = config.head_dim;
  KeyProblem problem{.heads = config.kv_heads, .head_dim = d};
  problem.gram = KeyGram(weights, config.kv_heads, d);
  problem.weight = Matrix(config.kv_heads, d / 2);
  std::fill(problem.weight.values.begin(), problem.weight.values.end(), 1.0);
  if (statistics != nullptr) {
    const double of_weights = Trace(problem.gram);
    const double of_text = Trace(statistics->keys);
    const double shrinkage = of_weights > 0 ? kShrinkage * of_text / of_weights : 0;
    for (int f = 0; f < d / 2; ++f) {
      auto gram = AsEigen(problem.gram[f]);
      gram = (gram * shrinkage + AsEigen(statistics->keys[f])).eval();
    }
    problem.weight = statistics->queries;
  }
  for (int f = 0; f < d / 2; ++f) {
    problem.freedom.push_back(FreedomAt(weights, f, d));
    for (int j = 0; j < config.kv_heads; ++j) problem.weight(j, f) *= GainEnergy(weights, f, d);
  }
  return problem;
}

ValueProblem MakeValueProblem(const ModelConfig& config, const LayerMatrices& weights,
                              const HeadStatistics* statistics) {
  const int64_t d = config.head_dim;
  ValueProblem problem{.heads = config.kv_heads, .head_dim = config.head_dim};
  problem.gram = ValueGram(weights);
  if (statistics != nullptr) {
    auto gram = AsEigen(problem.gram);
    const double of_weights = gram.trace();
    const double of_text = AsEigen(statistics->values).trace();
    const double shrinkage = of_weights > 0 ? kShrinkage * of_text / of_weights : 0;
    gram = (gram * shrinkage + AsEigen(statistics->values)).eval();
  }
  const int group = config.q_heads / config.kv_heads;
  for (int j = 0; j < config.kv_heads; ++j) {
    const auto o = AsEigen(weights.o).middleCols(j * group * d, group * d);
    Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(d, d);
    for (int i = 0; i < group; ++i) {
      gram += o.middleCols(i * d, d).transpose() * o.middleCols(i * d, d);
    }
    problem.output_gram.push_back(FromEigen(gram));
  }
  return problem;
}

}  // namespace mea::convert
