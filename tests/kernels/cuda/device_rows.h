#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/dtype.h"
#include "tests/simt/device_vector.h"

namespace mea {

// A matrix that lies in the columns [left, left + columns) of a wider one on the device, so that
// kernels meet strides, and odd starts where left is no multiple of 8. All of it starts as 0xff
// bytes, which are NaN: an output must be overwritten, its surroundings must not.
template <class T>
class DeviceRows {
 public:
  DeviceRows(int rows, int columns, int left = 0, int right = 0)
      : rows_(rows),
        columns_(columns),
        left_(left),
        stride_(left + columns + right),
        memory_(static_cast<size_t>(rows) * stride_) {}
  DeviceRows(int rows, int columns, const std::vector<T>& values, int left = 0, int right = 0)
      : DeviceRows(rows, columns, left, right) {
    EXPECT_EQ(values.size(), static_cast<size_t>(rows) * columns);
    const size_t row_bytes = columns * sizeof(T);
    EXPECT_EQ(cudaMemcpy2DAsync(data(), stride_ * sizeof(T), values.data(), row_bytes, row_bytes,
                                rows, cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  T* data() const { return memory_.data() + left_; }
  int64_t stride() const { return stride_; }

  // The matrix after everything queued so far; expects that all around it is as it was.
  std::vector<T> ToHost() const {
    const std::vector<T> all = memory_.ToHost();
    std::vector<T> values;
    for (int r = 0; r < rows_; ++r) {
      const T* row = all.data() + r * stride_;
      values.insert(values.end(), row + left_, row + left_ + columns_);
      ExpectUntouched(row, row + left_);
      ExpectUntouched(row + left_ + columns_, row + stride_);
    }
    return values;
  }

 private:
  static void ExpectUntouched(const T* begin, const T* end) {
    const std::vector<char> poison((end - begin) * sizeof(T), '\xff');
    EXPECT_EQ(std::memcmp(begin, poison.data(), poison.size()), 0) << "written outside the output";
  }

  int rows_;
  int columns_;
  int left_;
  int64_t stride_;
  simt::DeviceVector<T> memory_;
};

inline std::vector<float> NormalFloats(int64_t count, uint64_t seed, double scale = 1.0) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(normal(generator));
  return values;
}

inline std::vector<Bf16> ToBf16s(const std::vector<float>& values) {
  std::vector<Bf16> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) rounded[i] = ToBf16(values[i]);
  return rounded;
}

inline std::vector<Bf16> NormalBf16s(int64_t count, uint64_t seed, double scale = 1.0) {
  return ToBf16s(NormalFloats(count, seed, scale));
}

// One rounding to BF16 (half an ulp is at most 2^-8 of the value), and a trace of float32 before:
// 1e-3 of that, and `slack` where large terms cancel.
inline void ExpectRounded(const std::vector<Bf16>& actual, const std::vector<double>& expected,
                          double slack = 1e-30) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(ToFloat(actual[i]), expected[i], 0x1p-8 * 1.001 * std::fabs(expected[i]) + slack)
        << "element " << i;
  }
}

template <class T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace mea
