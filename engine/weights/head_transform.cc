#include "engine/weights/head_transform.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace mea {
namespace {

constexpr int64_t kColumnsTogether = 256;  // of a head, in the second-level cache as doubles

// A float that rounds to every narrower format as `x` itself does: inexact results are made odd, so
// that they never look like a tie.
float RoundToOdd(double x) {
  float rounded = static_cast<float>(x);
  if (!std::isfinite(rounded) || static_cast<double>(rounded) == x) return rounded;
  if (std::abs(static_cast<double>(rounded)) > std::abs(x)) {
    rounded = std::nextafter(rounded, 0.0f);
  }
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rounded) | 1u);
}

// Some columns of one head: rows [d, columns] of w as doubles, and of the result.
class HeadProduct {
 public:
  explicit HeadProduct(TensorView transform)
      : transform_(transform),
        d_(transform.shape[0]),
        w_(d_ * kColumnsTogether),
        floats_(kColumnsTogether),
        sums_(kColumnsTogether) {}

  void LoadRow(int64_t k, const void* w, DType dtype, int64_t columns) {
    ConvertDType(w, dtype, floats_.data(), DType::kF32, columns);
    std::copy_n(floats_.begin(), columns, w_.begin() + k * kColumnsTogether);
  }

  // Row i of the result, columns of it to `out`.
  ConversionResult Row(int64_t i, int64_t columns, void* out, DType dtype) {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (int64_t k = 0; k < d_; ++k) {
      const double t = transform_.row<float>(i)[k];
      const double* w = w_.data() + k * kColumnsTogether;
      for (int64_t c = 0; c < columns; ++c) sums_[c] += t * w[c];
    }
    int64_t num_overflows = 0;
    for (int64_t c = 0; c < columns; ++c) {
      floats_[c] = dtype == DType::kF32 ? static_cast<float>(sums_[c]) : RoundToOdd(sums_[c]);
      num_overflows += std::isfinite(sums_[c]) && !std::isfinite(floats_[c]);
    }
    ConversionResult result = ConvertDType(floats_.data(), DType::kF32, out, dtype, columns);
    result.num_overflows += num_overflows;
    return result;
  }

 private:
  const TensorView transform_;
  const int64_t d_;
  std::vector<double> w_;      // [d, kColumnsTogether]
  std::vector<float> floats_;  // [kColumnsTogether]
  std::vector<double> sums_;   // [kColumnsTogether]
};

}  // namespace

ConversionResult TransformHeads(const void* w, DType w_dtype, TensorView transform,
                                TensorView out) {
  const int64_t d = transform.shape[0];
  const int64_t rows = out.shape[0];
  const int64_t in = out.rank == 2 ? out.shape[1] : 1;
  MEA_CHECK(out.is_dense() && rows % d == 0);
  HeadProduct product(transform);
  ConversionResult total;
  for (int64_t head = 0; head < rows; head += d) {
    for (int64_t first = 0; first < in; first += kColumnsTogether) {
      const int64_t columns = std::min(kColumnsTogether, in - first);
      for (int64_t k = 0; k < d; ++k) {
        const int64_t element = (head + k) * in + first;
        product.LoadRow(k, static_cast<const char*>(w) + element * DTypeSize(w_dtype), w_dtype,
                        columns);
      }
      for (int64_t i = 0; i < d; ++i) {
        const int64_t element = (head + i) * in + first;
        const ConversionResult result = product.Row(
            i, columns, static_cast<char*>(out.data) + element * DTypeSize(out.dtype), out.dtype);
        total.num_non_finite += result.num_non_finite;
        total.num_overflows += result.num_overflows;
      }
    }
  }
  return total;
}

}  // namespace mea
