#include "tests/kernels/op_support.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <utility>

#include "kernels/cpu/kernel_table.h"
#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"

namespace mea {
namespace {

double Get(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::kF64:
      return view.as<double>()[i];
    case DType::kF32:
      return view.as<float>()[i];
    case DType::kBf16:
      return ToFloat(view.as<Bf16>()[i]);
    case DType::kF16:
      return ToFloat(view.as<F16>()[i]);
    case DType::kI32:
      return view.as<int32_t>()[i];
    case DType::kI8: {
      const int64_t k = view.shape[1];
      const int8_t* const row = view.row<int8_t>(i / k);
      return double{Int8Scale(row, k)} * row[i % k];
    }
    case DType::kI4: {
      const int64_t k = view.shape[1];
      std::vector<double> row(k);
      WidenInt4Row(view, i / k, row.data());
      return row[i % k];
    }
  }
  return 0;
}

// Rounds a float that F16 holds as a normal number; enough for test data.
F16 ToF16(float x) {
  if (x == 0) return {0};
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int exponent = static_cast<int>((bits >> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return {static_cast<uint16_t>((bits >> 16) & 0x8000)};
  return {static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff))};
}

void Set(const TensorView& view, int64_t i, double value) {
  switch (view.dtype) {
    case DType::kF64:
      view.as<double>()[i] = value;
      return;
    case DType::kF32:
      view.as<float>()[i] = static_cast<float>(value);
      return;
    case DType::kBf16:
      view.as<Bf16>()[i] = ToBf16(static_cast<float>(value));
      return;
    case DType::kF16:
      view.as<F16>()[i] = ToF16(static_cast<float>(value));
      return;
    case DType::kI32:
      view.as<int32_t>()[i] = static_cast<int32_t>(value);
      return;
    case DType::kI8:
    case DType::kI4:
      break;  // by rows: QuantizeRow, QuantizeInt4Row
  }
}

Tensor AllocateShape(std::span<const int64_t> shape, DType dtype) {
  auto tensor = Tensor::AllocateHost(shape, dtype);
  if (!tensor.ok()) std::abort();
  return *tensor;
}

}  // namespace

std::vector<std::string> CpuTargets() { return cpu::AvailableTargets(); }

bool MultipliesBf16(const std::string& target) { return target == "AVX3_BF16"; }
Int8Rounding Int8RoundingOf(const std::string& target) {
  if (target.ends_with("_BF16") || target.ends_with("_VNNI")) return {.elements = 16, .steps = 127};
  return {.elements = 512, .steps = 32767};
}
Int8Rounding Int4RoundingOf(const std::string& target) {
  if (target.starts_with("AVX")) return {.elements = 32, .steps = 127};
  return Int8RoundingOf(target);
}

std::unique_ptr<Backend> MakeCpu(const std::string& target, int num_threads) {
  setenv("MEA_CPU_TARGET", target.c_str(), 1);
  auto backend = CreateCpuBackend({.num_threads = num_threads});
  unsetenv("MEA_CPU_TARGET");
  if (!backend.ok()) std::abort();
  return *std::move(backend);
}

Tensor Allocate(std::initializer_list<int64_t> shape, DType dtype) {
  return AllocateShape(std::span(shape.begin(), shape.size()), dtype);
}

Tensor Quantized(const Tensor& matrix) {
  const TensorView& from = matrix.view();
  auto rows = AllocateInt8Rows(from.shape[0], from.shape[1]);
  if (!rows.ok()) std::abort();
  for (int64_t i = 0; i < from.shape[0]; ++i) {
    QuantizeRow(from.row<float>(i), from.shape[1], rows->view().row<int8_t>(i));
  }
  return *rows;
}

Tensor QuantizedInt4(const Tensor& matrix, Int4Layout layout) {
  const TensorView& from = matrix.view();
  const int group = layout.group;
  auto rows = AllocateInt4Rows(from.shape[0], from.shape[1], std::move(layout));
  if (!rows.ok()) std::abort();
  for (int64_t i = 0; i < from.shape[0]; ++i) {
    QuantizeInt4Row(from.row<float>(i), from.shape[1], group, rows->view().row<Int4Pair>(i));
  }
  return *rows;
}

Tensor Random(std::initializer_list<int64_t> shape, DType dtype, uint64_t seed, double scale) {
  if (dtype == DType::kI4) return QuantizedInt4(Random(shape, DType::kF32, seed, scale));
  if (dtype == DType::kI8) return Quantized(Random(shape, DType::kF32, seed, scale));
  Tensor tensor = Allocate(shape, dtype);
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  for (int64_t i = 0; i < tensor.view().num_elements(); ++i) {
    Set(tensor.view(), i, static_cast<float>(normal(generator)));
  }
  return tensor;
}

Tensor Ints(const std::vector<int32_t>& values) {
  Tensor tensor = Allocate({static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), tensor.view().as<int32_t>());
  return tensor;
}

void Poison(TensorView view) {
  ASSERT_TRUE(view.is_dense());
  for (int64_t i = 0; i < view.num_elements(); ++i) {
    Set(view, i, std::numeric_limits<double>::quiet_NaN());
  }
}

Tensor Poisoned(std::initializer_list<int64_t> shape, DType dtype) {
  Tensor tensor = Allocate(shape, dtype);
  Poison(tensor.view());
  return tensor;
}

Tensor Convert(const Tensor& tensor, DType dtype) {
  const TensorView& view = tensor.view();
  if (view.empty() || view.dtype == dtype) return tensor;
  Tensor result = AllocateShape(std::span(view.shape.data(), view.rank), dtype);
  for (int64_t i = 0; i < view.num_elements(); ++i) Set(result.view(), i, Get(view, i));
  return result;
}

std::vector<double> ToDoubles(TensorView view) {
  std::vector<double> values(view.num_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = Get(view, static_cast<int64_t>(i));
  return values;
}

double RelativeError(TensorView actual, TensorView expected) {
  if (actual.num_elements() != expected.num_elements()) {
    return std::numeric_limits<double>::infinity();
  }
  double difference = 0;
  double size = 0;
  for (int64_t i = 0; i < expected.num_elements(); ++i) {
    const double a = Get(actual, i);
    const double e = Get(expected, i);
    if (!std::isfinite(a) || !std::isfinite(e)) return std::numeric_limits<double>::infinity();
    difference += (a - e) * (a - e);
    size += e * e;
  }
  return size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
}

bool BitwiseEqual(TensorView a, TensorView b) {
  return a.dtype == b.dtype && a.num_elements() == b.num_elements() && a.is_dense() &&
         b.is_dense() && std::memcmp(a.data, b.data, a.num_elements() * DTypeSize(a.dtype)) == 0;
}

void ExpectRowsNotFiniteAlone(const std::function<Tensor(const Tensor& x)>& multiply, int64_t k,
                              bool (*shows)(float), const std::vector<float>& more) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr int kRow = 2;
  std::vector<float> bads = {kInfinity, -kInfinity, kNaN, -kNaN};
  bads.insert(bads.end(), more.begin(), more.end());
  for (const int64_t rows : {4, 20}) {
    const Tensor x = Random({rows, k}, DType::kF32, 5);
    const Tensor before = multiply(x);
    for (const float bad : bads) {
      for (const int64_t i : {int64_t{0}, int64_t{5}, int64_t{600}, k - 1}) {
        const float good = std::exchange(x.view().row<float>(kRow)[i], bad);
        const Tensor after = multiply(x);
        x.view().row<float>(kRow)[i] = good;
        for (int64_t row = 0; row < rows; ++row) {
          if (row == kRow) continue;
          EXPECT_TRUE(BitwiseEqual(after.view().Rows(row, 1), before.view().Rows(row, 1)));
        }
        for (int64_t out = 0; out < after.view().shape[1]; ++out) {
          EXPECT_TRUE(shows(after.view().row<float>(kRow)[out])) << bad << " at " << i;
        }
      }
    }
  }
}

}  // namespace mea
