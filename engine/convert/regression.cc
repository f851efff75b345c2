#include "engine/convert/regression.h"

#include <algorithm>
#include <utility>

#include "engine/convert/eigen.h"
#include "engine/weights/in_parallel.h"

namespace mea::convert {
namespace {

constexpr int64_t kPanel = 256;  // rows of a sum computed at a time

// [columns, n]: z_t rows[t][i].
TensorView Transposed(TensorView rows, std::span<const float> z, std::vector<float>& memory) {
  const int64_t n = rows.shape[0];
  const int64_t columns = rows.shape[1];
  constexpr int64_t kBlock = 16;  // a cache line of either side
  memory.resize(n * columns);
  for (int64_t first = 0; first < columns; first += kBlock) {
    const int64_t end = std::min(columns, first + kBlock);
    for (int64_t t = 0; t < n; ++t) {
      const float* row = rows.row<float>(t);
      for (int64_t i = first; i < end; ++i) memory[i * n + t] = z[t] * row[i];
    }
  }
  return TensorView::Dense(memory.data(), DType::kF32, {columns, n});
}

}  // namespace

Regression::Regression(Backend* backend, int64_t in, int64_t out)
    : backend_(backend), in_(in), out_(out), gram_(in, in), cross_(out, in) {}

int64_t Regression::Bytes(int64_t in, int64_t out, int64_t rows) {
  const int64_t doubles = in * in + out * in;
  const int64_t floats = (in + out) * rows + kPanel * in;
  return doubles * static_cast<int64_t>(sizeof(double)) +
         floats * static_cast<int64_t>(sizeof(float));
}

void Regression::Add(TensorView x, TensorView y, std::span<const float> z) {
  const TensorView xt = Transposed(x, z, xt_);
  const TensorView yt = Transposed(y, z, yt_);
  product_.resize(kPanel * in_);
  const auto add = [&](TensorView left, int64_t columns, Matrix& sum) {
    for (int64_t first = 0; first < left.shape[0]; first += kPanel) {
      const int64_t count = std::min(kPanel, left.shape[0] - first);
      // Of the Gram matrix only what is needed of the lower triangle.
      const int64_t seen = std::min(columns + first + count, in_);
      const TensorView product = TensorView::Dense(product_.data(), DType::kF32, {count, seen});
      backend_->MatMul(left.Rows(first, count), {.w = xt.Rows(0, seen), .out = product});
      for (int64_t i = 0; i < count; ++i) {
        const float* from = product.row<float>(i);
        double* to = sum.row(first + i);
        for (int64_t k = 0; k < seen; ++k) to[k] += from[k];
      }
    }
  };
  add(xt, 0, gram_);
  add(yt, in_, cross_);
}

Matrix Regression::Solve(const Matrix& prior, double ridge, int num_threads) && {
  MEA_CHECK(prior.rows == out_ && prior.cols == in_);
  double diagonal = 0;
  for (int64_t i = 0; i < in_; ++i) diagonal += gram_(i, i);
  const double added = std::max(ridge * diagonal / static_cast<double>(in_), 1e-300);
  for (int64_t i = 0; i < in_; ++i) gram_(i, i) += added;
  for (int64_t i = 0; i < out_ * in_; ++i) cross_.values[i] += added * prior.values[i];

  // A row-major lower triangle is Eigen's upper one, and the rows of `cross_` are its columns.
  Eigen::Map<Eigen::MatrixXd> gram(gram_.values.data(), in_, in_);
  const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>, Eigen::Upper> factor(gram);
  Eigen::Map<Eigen::MatrixXd> solution(cross_.values.data(), in_, out_);
  constexpr int64_t kColumns = 64;  // whatever the number of threads
  InParallel((out_ + kColumns - 1) / kColumns, 1, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * kColumns;
      auto columns = solution.middleCols(first, std::min(kColumns, out_ - first));
      factor.solveInPlace(columns);
    }
  });
  return std::move(cross_);
}

}  // namespace mea::convert
