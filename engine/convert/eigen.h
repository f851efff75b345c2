#pragma once

// Only for this room: Eigen's views of our matrices.

#include <Eigen/Dense>

#include "engine/convert/matrix.h"

namespace mea::convert {

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <typename T>
Eigen::Map<const RowMajor<T>> AsEigen(const MatrixOf<T>& m) {
  return {m.values.data(), m.rows, m.cols};
}
template <typename T>
Eigen::Map<RowMajor<T>> AsEigen(MatrixOf<T>& m) {
  return {m.values.data(), m.rows, m.cols};
}

template <typename Derived>
MatrixOf<typename Derived::Scalar> FromEigen(const Eigen::MatrixBase<Derived>& m) {
  MatrixOf<typename Derived::Scalar> out(m.rows(), m.cols());
  AsEigen(out) = m;
  return out;
}

}  // namespace mea::convert
