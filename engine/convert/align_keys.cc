#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/convert/alternate.h"
#include "engine/convert/clusters.h"
#include "engine/convert/compose.h"
#include "engine/convert/eigen.h"

namespace mea::convert {
namespace {

using Eigen::MatrixXcd;
using Eigen::MatrixXd;

// Weights below this share of their mean are raised to it: a frequency that the queries of the
// calibration text do not use must not be lost.
constexpr double kWeightFloor = 1e-6;

// The problem. With y_jf = sqrt(weight) w_jf, K_f = Q_f y_f:
//   minimise sum_f sum_j |y_jf - s_jf sum_c A_cj K_cf|^2,   s_jf = sqrt(weight) * rotation.
// Components are eliminated: Q_f is the pseudo-inverse of D_f = diag(s_f) A^T.
struct KeyState {
  MatrixXd mix;         // A [h', h]
  MatrixXcd rotations;  // s [h, F]

  // `step` times as far as from `before` to here, and beyond.
  static KeyState Beyond(const KeyState& before, const KeyState& here, double step) {
    return {here.mix + step * (here.mix - before.mix),
            here.rotations + step * (here.rotations - before.rotations)};
  }
};

class KeySolver {
 public:
  using State = KeyState;

  KeySolver(const KeyProblem& problem, int components)
      : problem_(problem),
        heads_(problem.heads),
        components_(components),
        root_(heads_, problem.num_frequencies()) {
    const double floor = kWeightFloor * std::max(AsEigen(problem.weight).mean(), 1e-300);
    root_ = AsEigen(problem.weight).cwiseMax(floor).cwiseSqrt();
    double energy = 0;
    for (int f = 0; f < frequencies(); ++f) {
      gram_.push_back(root_.col(f).asDiagonal() * AsEigen(problem.gram[f]) *
                      root_.col(f).asDiagonal());
      energy += gram_.back().trace().real();
    }
    if (energy > 0) {
      for (MatrixXcd& g : gram_) g /= energy;
    }
  }

  // One round of least squares: components, then rotations, then mixes. Returns the error before
  // the rotations and mixes moved.
  double Sweep(State& state) const {
    double error = 0;
    std::vector<MatrixXd> normal(heads_, MatrixXd::Zero(components_, components_));
    MatrixXd right = MatrixXd::Zero(components_, heads_);
    for (int f = 0; f < frequencies(); ++f) {
      const MatrixXcd q = Components(state, f);
      const MatrixXcd cross = gram_[f] * q.adjoint();               // [h, h'] <y_j, K_c>
      const MatrixXcd own = q * cross;                              // [h', h'] <K_c, K_c'>
      const MatrixXcd mix = state.mix.transpose().cast<Complex>();  // [h, h']
      for (int j = 0; j < heads_; ++j) {
        const Complex along = (cross.row(j) * mix.row(j).transpose())(0);             // <y_j, z_j>
        const double length = (mix.row(j) * own * mix.row(j).transpose())(0).real();  // <z_j, z_j>
        const Complex s = state.rotations(j, f);
        error += gram_[f](j, j).real() - 2 * (std::conj(s) * along).real() + std::norm(s) * length;
        if (length > 0) state.rotations(j, f) = Allowed(along, length, j, f, s);
        const Complex rotated = state.rotations(j, f);
        normal[j] += std::norm(rotated) * own.real();
        right.col(j) += (std::conj(rotated) * cross.row(j).transpose()).real();
      }
    }
    for (int j = 0; j < heads_; ++j) {
      normal[j].diagonal().array() += kRidge * normal[j].trace() / components_ + 1e-300;
      state.mix.col(j) = normal[j].ldlt().solve(right.col(j));
    }
    return std::max(error, 0.0);
  }

  // The error with the best components for this state.
  double Error(const State& state) const {
    double error = 0;
    for (int f = 0; f < frequencies(); ++f) {
      const MatrixXcd design = Design(state, f);
      const MatrixXcd left = MatrixXcd::Identity(heads_, heads_) - design * Components(state, f);
      error += (left * gram_[f]).cwiseProduct(left.conjugate()).sum().real();
    }
    return std::max(error, 0.0);
  }

  // Makes an extrapolated state valid again.
  void Project(State& state) const {
    for (int f = 0; f < frequencies(); ++f) {
      for (int j = 0; j < heads_; ++j) {
        state.rotations(j, f) = Allowed(state.rotations(j, f), 1.0, j, f, state.rotations(j, f));
      }
    }
  }

  std::vector<State> Starts(Random& random) const;
  KeyComposition Finish(const State& state) const;

 private:
  int frequencies() const { return problem_.num_frequencies(); }

  MatrixXcd Design(const State& state, int f) const {  // [h, h']
    return state.rotations.col(f).asDiagonal() * state.mix.transpose().cast<Complex>();
  }

  MatrixXcd Components(const State& state, int f) const {  // Q [h', h]
    const MatrixXcd design = Design(state, f);
    MatrixXcd normal = design.adjoint() * design;
    normal.diagonal().array() += kRidge * normal.trace().real() / components_ + 1e-300;
    return normal.ldlt().solve(design.adjoint());
  }

  // The best s for <y, z> = along, <z, z> = length.
  Complex Allowed(Complex along, double length, int j, int f, Complex before) const {
    switch (problem_.freedom[f]) {
      case KeyFreedom::kComplex:
        return along / length;
      case KeyFreedom::kRotation:
        return std::abs(along) > 0 ? root_(j, f) * along / std::abs(along) : before;
      case KeyFreedom::kSign:
        return along.real() < 0 ? -root_(j, f) : root_(j, f);
    }
    return before;
  }

  State FromClusters(const Clusters& clusters) const;
  MatrixXcd Synchronised() const;
  Matrix Affinity() const;

  const KeyProblem& problem_;
  const int heads_;
  const int components_;
  MatrixXd root_;                // [h, F] sqrt(weight)
  std::vector<MatrixXcd> gram_;  // [F] of [h, h], of the y_jf; traces sum to 1
};

// Rotations that align all heads with the strongest common direction at each frequency.
MatrixXcd KeySolver::Synchronised() const {
  MatrixXcd rotations(heads_, frequencies());
  for (int f = 0; f < frequencies(); ++f) {
    const Eigen::SelfAdjointEigenSolver<MatrixXcd> eigen(gram_[f]);
    for (int j = 0; j < heads_; ++j) {
      const Complex along = eigen.eigenvectors()(j, heads_ - 1);
      const Complex phase = std::abs(along) > 1e-150 ? along / std::abs(along) : Complex(1);
      rotations(j, f) = Allowed(phase * root_(j, f), 1.0, j, f, root_(j, f));
    }
  }
  return rotations;
}

// How similar two heads are after the best rotation, 0..1.
Matrix KeySolver::Affinity() const {
  MatrixXd common = MatrixXd::Zero(heads_, heads_);
  for (const MatrixXcd& g : gram_) common += g.cwiseAbs();
  Matrix affinity(heads_, heads_);
  for (int j = 0; j < heads_; ++j) {
    for (int k = 0; k < heads_; ++k) {
      const double scale = std::sqrt(common(j, j) * common(k, k));
      affinity(j, k) = scale > 0 ? common(j, k) / scale : 0;
    }
  }
  return affinity;
}

// One component per cluster: at each frequency its heads' strongest common direction.
KeyState KeySolver::FromClusters(const Clusters& clusters) const {
  State state{MatrixXd::Zero(components_, heads_), root_.cast<Complex>()};
  for (int c = 0; c < components_; ++c) {
    const std::vector<int>& members = clusters[c];
    const int size = static_cast<int>(members.size());
    for (const int j : members) state.mix(c, j) = 1;
    for (int f = 0; f < frequencies(); ++f) {
      MatrixXcd part(size, size);
      for (int a = 0; a < size; ++a) {
        for (int b = 0; b < size; ++b) part(a, b) = gram_[f](members[a], members[b]);
      }
      const Eigen::SelfAdjointEigenSolver<MatrixXcd> eigen(part);
      for (int a = 0; a < size; ++a) {
        const Complex along = eigen.eigenvectors()(a, size - 1);
        state.rotations(members[a], f) = Allowed(along, 1.0, members[a], f, root_(members[a], f));
      }
    }
  }
  return state;
}

std::vector<KeyState> KeySolver::Starts(Random& random) const {
  constexpr int kRandomClusterings = 3;
  std::vector<State> starts;
  // Without rotations: the solution of the SVD.
  starts.push_back({AsEigen(ComposeKeysBySvd(problem_, components_).mix), root_.cast<Complex>()});
  // The same after all heads have been aligned.
  State aligned{MatrixXd(components_, heads_), Synchronised()};
  MatrixXd common = MatrixXd::Zero(heads_, heads_);
  for (int f = 0; f < frequencies(); ++f) {
    const Eigen::VectorXcd rotations =
        aligned.rotations.col(f).cwiseQuotient(root_.col(f).cast<Complex>());
    common += (rotations.conjugate().asDiagonal() * gram_[f] * rotations.asDiagonal()).real();
  }
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(common);
  for (int c = 0; c < components_; ++c) {
    aligned.mix.row(c) = eigen.eigenvectors().col(heads_ - 1 - c).transpose();
  }
  starts.push_back(std::move(aligned));
  starts.push_back(FromClusters(AgglomerateHeads(Affinity(), components_)));
  for (int i = 0; i < kRandomClusterings; ++i) {
    starts.push_back(FromClusters(RandomClusters(heads_, components_, random)));
  }
  return starts;
}

// Undoes the weights. Free scales are chosen so that the numbers in W_q, in the components and in
// W_lc are near 1 and round well in half precision.
KeyComposition KeySolver::Finish(const State& state) const {
  MatrixXcd rotations = state.rotations.cwiseQuotient(root_.cast<Complex>());
  MatrixXd mix = state.mix;
  KeyComposition out;
  std::vector<MatrixXcd> combine;
  for (int f = 0; f < frequencies(); ++f) {
    combine.push_back(Components(state, f) * root_.col(f).cast<Complex>().asDiagonal());
    if (problem_.freedom[f] != KeyFreedom::kComplex) continue;
    const double size = std::exp(rotations.col(f).cwiseAbs().cwiseMax(1e-150).array().log().mean());
    rotations.col(f) /= size;
    combine[f] *= size;
  }
  const bool scalable = std::all_of(problem_.freedom.begin(), problem_.freedom.end(),
                                    [](KeyFreedom f) { return f == KeyFreedom::kComplex; });
  for (int j = 0; scalable && j < heads_; ++j) {
    const double size = rotations.row(j).norm() / std::sqrt(static_cast<double>(frequencies()));
    if (size < 1e-150) continue;
    rotations.row(j) /= size;
    mix.col(j) *= size;
  }
  double head_energy = 0;
  Eigen::VectorXd energy = Eigen::VectorXd::Zero(components_);
  for (int f = 0; f < frequencies(); ++f) {
    const auto gram = AsEigen(problem_.gram[f]);
    head_energy += gram.trace().real() / heads_;
    energy += (combine[f] * gram).cwiseProduct(combine[f].conjugate()).rowwise().sum().real();
  }
  for (int c = 0; c < components_; ++c) {
    const double size = std::sqrt(energy[c] / head_energy);
    if (!(size > 0)) continue;
    for (MatrixXcd& m : combine) m.row(c) /= size;
    mix.row(c) *= size;
  }
  out.mix = FromEigen(mix);
  for (const MatrixXcd& m : combine) out.combine.push_back(FromEigen(m));
  out.rotation = FromEigen(rotations);
  return out;
}

}  // namespace

KeyComposition AlignKeys(const KeyProblem& problem, int components, const AlignOptions& options,
                         std::vector<double>* trace) {
  const KeySolver solver(problem, components);
  return solver.Finish(Alternate(solver, options, trace));
}

}  // namespace mea::convert
