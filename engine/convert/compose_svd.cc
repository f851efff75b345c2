#include <algorithm>
#include <cmath>

#include "engine/convert/compose.h"
#include "engine/convert/eigen.h"

namespace mea::convert {
namespace {

// Singular values below this share of the largest are rounding: their component would be noise.
constexpr double kRankTolerance = 1e-7;

// From the h x h Gram matrix of the heads as columns: combine [h', h] and mix [h', h]. With
// W = U S V^T and G = W^T W = V S^2 V^T, component c is U_c = sum_j W_j V_jc / S_c, and W_lc = S
// V^T.
struct Svd {
  Eigen::MatrixXd combine;
  Eigen::MatrixXd mix;
};

Svd TopSingular(const Eigen::MatrixXd& gram, int components) {
  const Eigen::Index heads = gram.rows();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(gram);
  const double largest = std::max(eigen.eigenvalues()[heads - 1], 0.0);
  // All heads together have the weight tr G; a component is scaled to the mean weight of a head.
  const double size = std::sqrt(std::max(gram.trace(), 0.0) / static_cast<double>(heads));
  Svd svd{Eigen::MatrixXd::Zero(components, heads), Eigen::MatrixXd::Zero(components, heads)};
  for (int c = 0; c < components; ++c) {
    const double value = std::max(eigen.eigenvalues()[heads - 1 - c], 0.0);
    if (value <= largest * kRankTolerance * kRankTolerance || size == 0) continue;
    const double s = std::sqrt(value);
    const auto v = eigen.eigenvectors().col(heads - 1 - c);
    // The sign of an eigenvector is arbitrary; the largest entry decides it, so that runs agree.
    Eigen::Index largest_entry = 0;
    v.cwiseAbs().maxCoeff(&largest_entry);
    const double sign = v[largest_entry] < 0 ? -1.0 : 1.0;
    svd.combine.row(c) = sign * size / s * v.transpose();
    svd.mix.row(c) = sign * s / size * v.transpose();
  }
  return svd;
}

}  // namespace

KeyComposition ComposeKeysBySvd(const KeyProblem& problem, int components) {
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(problem.heads, problem.heads);
  for (const ComplexMatrix& g : problem.gram) gram += AsEigen(g).real();
  const Svd svd = TopSingular(gram, components);
  KeyComposition composition;
  composition.mix = FromEigen(svd.mix);
  composition.combine.assign(problem.num_frequencies(), FromEigen(svd.combine.cast<Complex>()));
  return composition;
}

ValueComposition ComposeValuesBySvd(const ValueProblem& problem, int components) {
  const int64_t d = problem.head_dim;
  const auto full = AsEigen(problem.gram);
  Eigen::MatrixXd gram(problem.heads, problem.heads);
  for (int j = 0; j < problem.heads; ++j) {
    for (int k = 0; k < problem.heads; ++k) gram(j, k) = full.block(j * d, k * d, d, d).trace();
  }
  const Svd svd = TopSingular(gram, components);
  ValueComposition composition;
  composition.mix = FromEigen(svd.mix);
  composition.combine = Matrix(components * d, problem.heads * d);
  for (int c = 0; c < components; ++c) {
    for (int j = 0; j < problem.heads; ++j) {
      for (int64_t i = 0; i < d; ++i) {
        composition.combine(c * d + i, j * d + i) = svd.combine(c, j);
      }
    }
  }
  return composition;
}

// With E the h x h matrix of what K_f becomes in terms of w_f, the error at f is
// sum_j weight_j ((I - E) G (I - E)^*)_jj.
double KeyError(const KeyProblem& problem, const KeyComposition& composition) {
  double error = 0;
  double energy = 0;
  const Eigen::MatrixXcd mix = AsEigen(composition.mix).transpose().cast<Complex>();  // [h, h']
  for (int f = 0; f < problem.num_frequencies(); ++f) {
    Eigen::MatrixXcd left = -(mix * AsEigen(composition.combine[f]));
    if (!composition.rotation.empty()) {
      left = AsEigen(composition.rotation).col(f).asDiagonal() * left;
    }
    left.diagonal().array() += 1.0;
    const auto gram = AsEigen(problem.gram[f]);
    const Eigen::MatrixXcd product = left * gram;
    for (int j = 0; j < problem.heads; ++j) {
      const double weight = problem.weight(j, f);
      error += weight * product.row(j).dot(left.row(j)).real();
      energy += weight * gram(j, j).real();
    }
  }
  return energy > 0 ? std::max(error, 0.0) / energy : 0;
}

double ValueError(const ValueProblem& problem, const ValueComposition& composition) {
  const int64_t d = problem.head_dim;
  const auto gram = AsEigen(problem.gram);
  const auto combine = AsEigen(composition.combine);
  double error = 0;
  double energy = 0;
  for (int j = 0; j < problem.heads; ++j) {
    RowMajor<double> left = RowMajor<double>::Zero(d, gram.cols());
    for (int c = 0; c < composition.components(); ++c) {
      left -= composition.mix(c, j) * combine.middleRows(c * d, d);
    }
    if (!composition.basis.empty()) left = (AsEigen(composition.basis[j]) * left).eval();
    left.middleCols(j * d, d).diagonal().array() += 1.0;
    const auto weight = AsEigen(problem.output_gram[j]);
    error += (weight * left * gram).cwiseProduct(left).sum();
    energy += weight.cwiseProduct(gram.block(j * d, j * d, d, d)).sum();
  }
  return energy > 0 ? std::max(error, 0.0) / energy : 0;
}

}  // namespace mea::convert
