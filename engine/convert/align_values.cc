#include <algorithm>
#include <cmath>

#include "engine/convert/alternate.h"
#include "engine/convert/clusters.h"
#include "engine/convert/compose.h"
#include "engine/convert/eigen.h"

namespace mea::convert {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

// Directions of a head's output that o_proj does not use get this share of the mean weight.
constexpr double kOutputFloor = 1e-6;

// The problem. With Y_j = N_j^(1/2) V_j, N_j the output's Gram matrix, and components X = Q Y:
// minimise sum_j |Y_j - F_j sum_c B_cj X_c|^2, F_j = N_j^(1/2) basis_j. Components are eliminated:
// Q is the pseudo-inverse of D, whose block (j, c) is B_cj F_j.
struct ValueState {
  MatrixXd mix;                 // B [h', h]
  std::vector<MatrixXd> bases;  // F [h] of [d, d]

  static ValueState Beyond(const ValueState& before, const ValueState& here, double step) {
    ValueState beyond = here;
    beyond.mix += step * (here.mix - before.mix);
    for (size_t j = 0; j < here.bases.size(); ++j) {
      beyond.bases[j] += step * (here.bases[j] - before.bases[j]);
    }
    return beyond;
  }
};

struct Root {
  MatrixXd root;     // N^(1/2)
  MatrixXd inverse;  // N^(-1/2)
};

Root SquareRoot(const MatrixXd& gram, double floor) {
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(gram);
  const VectorXd values = eigen.eigenvalues().cwiseMax(floor).cwiseSqrt();
  const MatrixXd& vectors = eigen.eigenvectors();
  return {vectors * values.asDiagonal() * vectors.transpose(),
          vectors * values.cwiseInverse().asDiagonal() * vectors.transpose()};
}

class ValueSolver {
  // Defined before its first use, from which its type follows.
  template <typename M>
  auto Block(M& m, int64_t i, int64_t j) const {
    return m.block(i * d_, j * d_, d_, d_);
  }

 public:
  using State = ValueState;

  ValueSolver(const ValueProblem& problem, int components)
      : problem_(problem),
        heads_(problem.heads),
        components_(components),
        d_(problem.head_dim),
        gram_(AsEigen(problem.gram)) {
    double mean = 0;
    for (const Matrix& n : problem.output_gram) mean += AsEigen(n).trace() / (heads_ * d_);
    for (const Matrix& n : problem.output_gram) {
      roots_.push_back(SquareRoot(AsEigen(n), std::max(kOutputFloor * mean, 1e-300)));
    }
    for (int j = 0; j < heads_; ++j) {
      for (int k = 0; k < heads_; ++k) {
        Block(gram_, j, k) = (roots_[j].root * Block(gram_, j, k) * roots_[k].root).eval();
      }
    }
    if (const double energy = gram_.trace(); energy > 0) gram_ /= energy;
  }

  double Sweep(State& state) const {
    const MatrixXd seen = GramTimesDesign(state);
    const Eigen::LLT<MatrixXd> normal = Normal(state);
    const MatrixXd cross = normal.solve(seen.transpose()).transpose();  // <Y_j, X_c>
    const MatrixXd own = normal.solve(DesignTransposed(state, cross));  // <X_c, X_c'>
    double error = 0;
    for (int j = 0; j < heads_; ++j) error += MoveHead(j, cross, own, state);
    return std::max(error, 0.0);
  }

  double Error(const State& state) const {
    const MatrixXd seen = DesignTransposed(state, GramTimesDesign(state));
    const double kept = Normal(state).solve(seen).trace();  // tr(D Q G)
    return std::max(gram_.trace() - kept, 0.0);
  }

  void Project(State& /*state*/) const {}

  std::vector<State> Starts(Random& random) const;
  ValueComposition Finish(const State& state) const;

 private:
  // D is a sum of Kronecker products over heads; these three functions do not materialise it.
  MatrixXd GramTimesDesign(const State& state) const {  // G D [h*d, h'*d]
    MatrixXd product = MatrixXd::Zero(heads_ * d_, components_ * d_);
    for (int j = 0; j < heads_; ++j) {
      const MatrixXd rotated = gram_.middleCols(j * d_, d_) * state.bases[j];
      for (int c = 0; c < components_; ++c) {
        product.middleCols(c * d_, d_) += state.mix(c, j) * rotated;
      }
    }
    return product;
  }

  MatrixXd DesignTransposed(const State& state, const MatrixXd& right) const {  // D^T right
    MatrixXd product = MatrixXd::Zero(components_ * d_, right.cols());
    for (int j = 0; j < heads_; ++j) {
      const MatrixXd rotated = state.bases[j].transpose() * right.middleRows(j * d_, d_);
      for (int c = 0; c < components_; ++c) {
        product.middleRows(c * d_, d_) += state.mix(c, j) * rotated;
      }
    }
    return product;
  }

  Eigen::LLT<MatrixXd> Normal(const State& state) const {  // D^T D
    MatrixXd normal = MatrixXd::Zero(components_ * d_, components_ * d_);
    for (int j = 0; j < heads_; ++j) {
      const MatrixXd shape = state.bases[j].transpose() * state.bases[j];
      for (int c = 0; c < components_; ++c) {
        for (int e = 0; e <= c; ++e)
          Block(normal, c, e) += state.mix(c, j) * state.mix(e, j) * shape;
      }
    }
    normal.diagonal().array() +=
        kRidge * normal.trace() / static_cast<double>(normal.rows()) + 1e-300;
    return Eigen::LLT<MatrixXd>(normal);  // reads the lower triangle
  }

  double MoveHead(int j, const MatrixXd& cross, const MatrixXd& own, State& state) const;
  State FromClusters(const Clusters& clusters) const;
  Matrix Affinity() const;

  const ValueProblem& problem_;
  const int heads_;
  const int components_;
  const int64_t d_;
  MatrixXd gram_;  // of the Y_j, trace 1
  std::vector<Root> roots_;
};

// Finds the best basis, then the best mix, of one head for fixed components. Returns the error
// before.
double ValueSolver::MoveHead(int j, const MatrixXd& cross, const MatrixXd& own,
                             State& state) const {
  MatrixXd along = MatrixXd::Zero(d_, d_);   // <Y_j, Z_j>, Z_j = sum_c B_cj X_c
  MatrixXd length = MatrixXd::Zero(d_, d_);  // <Z_j, Z_j>
  for (int c = 0; c < components_; ++c) {
    along += state.mix(c, j) * Block(cross, j, c);
    for (int e = 0; e < components_; ++e) {
      length += state.mix(c, j) * state.mix(e, j) * Block(own, c, e);
    }
  }
  MatrixXd& basis = state.bases[j];
  const double error = Block(gram_, j, j).trace() - 2 * basis.cwiseProduct(along).sum() +
                       (basis * length).cwiseProduct(basis).sum();
  length.diagonal().array() += kRidge * length.trace() / static_cast<double>(d_) + 1e-300;
  basis = length.ldlt().solve(along.transpose()).transpose();

  const MatrixXd shape = basis.transpose() * basis;
  MatrixXd normal(components_, components_);
  VectorXd right(components_);
  for (int c = 0; c < components_; ++c) {
    right[c] = basis.cwiseProduct(Block(cross, j, c)).sum();
    for (int e = 0; e < components_; ++e) normal(c, e) = shape.cwiseProduct(Block(own, c, e)).sum();
  }
  normal.diagonal().array() += kRidge * normal.trace() / components_ + 1e-300;
  state.mix.col(j) = normal.ldlt().solve(right);
  // The basis takes its length, so it stays bounded in all sweeps.
  const double size = state.mix.col(j).norm();
  if (size > 1e-150) {
    state.mix.col(j) /= size;
    basis *= size;
  }
  return error;
}

// The share of two heads that lies in common directions, 0..1.
Matrix ValueSolver::Affinity() const {
  Matrix affinity(heads_, heads_);
  for (int j = 0; j < heads_; ++j) {
    for (int k = 0; k < heads_; ++k) {
      const double scale = Block(gram_, j, j).norm() * Block(gram_, k, k).norm();
      affinity(j, k) = scale > 0 ? Block(gram_, j, k).squaredNorm() / scale : 0;
    }
  }
  return affinity;
}

// One component per cluster: the d strongest directions of its heads together.
ValueState ValueSolver::FromClusters(const Clusters& clusters) const {
  State state{MatrixXd::Zero(components_, heads_), std::vector<MatrixXd>(heads_)};
  for (int c = 0; c < components_; ++c) {
    const std::vector<int>& members = clusters[c];
    const int64_t size = std::ssize(members);
    MatrixXd part(size * d_, size * d_);
    for (int a = 0; a < size; ++a) {
      for (int b = 0; b < size; ++b) Block(part, a, b) = Block(gram_, members[a], members[b]);
    }
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(part);
    for (int a = 0; a < size; ++a) {
      state.mix(c, members[a]) = 1;
      state.bases[members[a]] = eigen.eigenvectors().block(a * d_, (size - 1) * d_, d_, d_);
    }
  }
  return state;
}

std::vector<ValueState> ValueSolver::Starts(Random& random) const {
  constexpr int kRandomClusterings = 2;
  std::vector<State> starts;
  // No change of basis: the solution of the SVD.
  State plain{AsEigen(ComposeValuesBySvd(problem_, components_).mix), {}};
  for (const Root& root : roots_) plain.bases.push_back(root.root);
  starts.push_back(std::move(plain));
  starts.push_back(FromClusters(AgglomerateHeads(Affinity(), components_)));
  for (int i = 0; i < kRandomClusterings; ++i) {
    starts.push_back(FromClusters(RandomClusters(heads_, components_, random)));
  }
  return starts;
}

// Undoes the weights. The free common basis of the components is chosen so that the numbers in W_o,
// in the components and in W_lc have equal size and round well in half precision.
ValueComposition ValueSolver::Finish(const State& state) const {
  const MatrixXd heads = MatrixXd::Identity(heads_ * d_, heads_ * d_);
  MatrixXd combine = Normal(state).solve(DesignTransposed(state, heads));  // Q [h'*d, h*d]
  for (int j = 0; j < heads_; ++j) {
    combine.middleCols(j * d_, d_) = (combine.middleCols(j * d_, d_) * roots_[j].root).eval();
  }
  const auto gram = AsEigen(problem_.gram);
  MatrixXd shared = MatrixXd::Zero(d_, d_);
  for (int c = 0; c < components_; ++c) {
    const auto rows = combine.middleRows(c * d_, d_);
    shared += rows * gram * rows.transpose() / components_;
  }
  const double head_size =
      gram.trace() / static_cast<double>(heads_ * d_);  // mean square of a value
  const Root root =
      SquareRoot(shared / std::max(head_size, 1e-300),
                 std::max(1e-12 * shared.trace() / std::max(head_size, 1e-300), 1e-300));
  ValueComposition out;
  out.mix = FromEigen(state.mix);
  for (int c = 0; c < components_; ++c) {
    combine.middleRows(c * d_, d_) = (root.inverse * combine.middleRows(c * d_, d_)).eval();
  }
  out.combine = FromEigen(combine);
  for (int j = 0; j < heads_; ++j) {
    out.basis.push_back(FromEigen(roots_[j].inverse * state.bases[j] * root.root));
  }
  return out;
}

}  // namespace

ValueComposition AlignValues(const ValueProblem& problem, int components,
                             const AlignOptions& options, std::vector<double>* trace) {
  const ValueSolver solver(problem, components);
  return solver.Finish(Alternate(solver, options, trace));
}

}  // namespace mea::convert
