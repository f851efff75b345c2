#pragma once

#include <complex>
#include <cstdint>
#include <vector>

namespace mea::convert {

using Complex = std::complex<double>;

// A dense row-major matrix, which the files of this room exchange, so that only the few files that
// compute include the linear algebra library.
template <typename T>
struct MatrixOf {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<T> values;

  MatrixOf() = default;
  MatrixOf(int64_t num_rows, int64_t num_cols)
      : rows(num_rows), cols(num_cols), values(num_rows * num_cols) {}

  bool empty() const { return values.empty(); }
  T& operator()(int64_t i, int64_t j) { return values[i * cols + j]; }
  const T& operator()(int64_t i, int64_t j) const { return values[i * cols + j]; }
  T* row(int64_t i) { return values.data() + i * cols; }
  const T* row(int64_t i) const { return values.data() + i * cols; }

  bool operator==(const MatrixOf&) const = default;
};

using Matrix = MatrixOf<double>;
using FloatMatrix = MatrixOf<float>;
using ComplexMatrix = MatrixOf<Complex>;

}  // namespace mea::convert
