#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/convert/matrix.h"
#include "kernels/backend.h"

namespace mea::convert {

// Ridge regression of a matrix W [out, in] on rows of activations, summed up as they come:
//   minimise sum_t z_t^2 |W x_t - y_t|^2 + ridge * m * |W - prior|^2, m = mean over i of sum z^2
//   x_i^2
// Products are the back end's, in f32 for the rows of one call; sums and the solution are doubles.
// Results do not depend on the number of threads.
class Regression {
 public:
  Regression(Backend* backend, int64_t in, int64_t out);

  // x [n, in], y [n, out], both f32 on the host; z [n].
  void Add(TensorView x, TensorView y, std::span<const float> z);
  // Destroys the sums. A prior that is already the best comes back unchanged, up to rounding.
  Matrix Solve(const Matrix& prior, double ridge, int num_threads) &&;

  // Of the sums, and of the working memory for `rows` rows at a time.
  static int64_t Bytes(int64_t in, int64_t out, int64_t rows);

 private:
  Backend* backend_;
  int64_t in_;
  int64_t out_;
  Matrix gram_;   // [in, in] sum z^2 x x^T, the lower triangle
  Matrix cross_;  // [out, in] sum z^2 y x^T
  std::vector<float> xt_, yt_, product_;
};

}  // namespace mea::convert
