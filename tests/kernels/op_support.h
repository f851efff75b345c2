#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/int4_rows.h"

namespace mea {

// The instruction sets of this build that this machine runs, for parameterised tests.
std::vector<std::string> CpuTargets();
std::unique_ptr<Backend> MakeCpu(const std::string& target, int num_threads = 2);
// Whether the target rounds its rows to BF16 before they meet weights in BF16.
bool MultipliesBf16(const std::string& target);
// How it rounds them before they meet weights in 8 bits: so many elements together, the largest to
// so many steps.
struct Int8Rounding {
  int64_t elements;
  int steps;
};
Int8Rounding Int8RoundingOf(const std::string& target);
// Before they meet weights in 4 bits.
Int8Rounding Int4RoundingOf(const std::string& target);

// The rows of an f32 matrix in 8 bits.
Tensor Quantized(const Tensor& matrix);
// In 4 bits; what is rounded is in the order of memory.
Tensor QuantizedInt4(const Tensor& matrix, Int4Layout layout = {});

Tensor Allocate(std::initializer_list<int64_t> shape, DType dtype);
// Normal numbers rounded to `dtype`; the seed goes into the failure message by way of the test's
// own parameters.
Tensor Random(std::initializer_list<int64_t> shape, DType dtype, uint64_t seed, double scale = 1.0);
Tensor Ints(const std::vector<int32_t>& values);
// Every element NaN (F64, F32, BF16): an output must be overwritten, a free page never read.
Tensor Poisoned(std::initializer_list<int64_t> shape, DType dtype);
void Poison(TensorView view);
// The same numbers in another format.
Tensor Convert(const Tensor& tensor, DType dtype);
std::vector<double> ToDoubles(TensorView view);

// Relative Frobenius error of `actual` against `expected`; infinite where one of them is not
// finite.
double RelativeError(TensorView actual, TensorView expected);
// Whether two dense tensors agree in every bit.
bool BitwiseEqual(TensorView a, TensorView b);

// Products of 4 and 20 rows of k elements, one of which holds an infinity, a NaN or one of `more`:
// every element of its result `shows` that, and no other row of the result changes.
void ExpectRowsNotFiniteAlone(const std::function<Tensor(const Tensor& x)>& multiply, int64_t k,
                              bool (*shows)(float), const std::vector<float>& more = {});

// The one table of tolerances: relative Frobenius error of an op of the CPU back end against the
// reference on the same rounded inputs. Products and sums happen in float32 whatever the weights
// are stored in, so the figure follows the op and not the storage, except where rows are rounded.
struct Tolerance {
  // Half an ulp of float32 is 6e-8. A product over k elements errs by about sqrt(k) / lanes of
  // that; 2e-6 leaves room for k = 8192 on the one-lane target.
  static constexpr double kMatMul = 2e-6;
  // Before it meets weights in 8 bits, a row is rounded to 16: by at most 1/65534 of the largest of
  // 512 elements, which for normal numbers is below 5 deviations, each element by itself: 8e-5 of
  // the result. cpu_int8_test holds every element to its own bound.
  static constexpr double kInt8MatMul = 1e-4;
  // To 8 bits: by at most 1/254 of the largest of 16, which is 1.8 deviations on average: 4e-3 of
  // the result, and more where few elements are added.
  static constexpr double kVnniMatMul = 1e-2;
  static bool IsRoundedToBytes(DType weights, const std::string& target) {
    const auto rounding = weights == DType::kI4 ? Int4RoundingOf : Int8RoundingOf;
    return rounding(target).steps == 127;
  }
  static double MatMul(DType weights, const std::string& target) {
    if (weights != DType::kI8 && weights != DType::kI4) return kMatMul;
    return IsRoundedToBytes(weights, target) ? kVnniMatMul : kInt8MatMul;
  }
  // A sum of squares, one square root, two products.
  static constexpr double kRowwise = 5e-7;
  // The vector exponential errs by 2e-7.
  static constexpr double kGate = 5e-7;
  // Three products, and the routing's weights.
  static constexpr double kMoe = 4e-6;
  // What SwiGLU makes is rounded to BF16 by up to 2^-8, each element by itself, so that the sum's
  // error stays below half of that.
  static constexpr double kBf16Moe = 2e-3;
  // What SwiGLU makes has a largest element of up to 20 deviations.
  static constexpr double kInt8Moe = 4e-4;
  // Rounded twice.
  static constexpr double kVnniMoe = 2e-2;
  static double Moe(DType weights, const std::string& target) {
    if (weights == DType::kBf16 && MultipliesBf16(target)) return kBf16Moe;
    if (weights != DType::kI8 && weights != DType::kI4) return kMoe;
    return IsRoundedToBytes(weights, target) ? kVnniMoe : kInt8Moe;
  }
  // Scores err by 1e-6 of their size, and the exponential turns that into a relative error of the
  // weights.
  static constexpr double kAttention = 1e-5;
  // By dot products of BF16 pairs, softmax's weights are rounded by up to 2^-9 = 2e-3, each by
  // itself; the root of the mean square is below 1e-3.
  static constexpr double kBf16Weights = 1e-3;
  // So are queries, mixes and composed heads, which moves scores by 2e-3 of their size. With up to
  // 33 components of normal numbers that is up to 6; the exponential makes it a relative error.
  static constexpr double kBf16Attention = 1.2e-2;
  // Rounding to BF16 moves a value by up to 2^-9; where the float and the double path straddle a
  // tie, two neighbours 2^-8 apart result, seldom.
  static constexpr double kBf16Store = 1e-4;
};

}  // namespace mea
