// The emulator on kernels with known answers.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/simt/device_vector.h"
#include "tests/simt/machine.h"
#include "tests/simt/samples/kernels.h"

namespace mea::simt {
namespace {

using samples::GemmParams;
using samples::LaunchMmaGemm;
using samples::LaunchNaiveGemm;
using samples::LaunchRowSum;

class SimtTest : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    MachineOptions options;
    options.seed = GetParam();
    ResetMachine(options);
  }
  void TearDown() override { EXPECT_EQ(NumLiveObjects(), 0); }

  std::mt19937 random_{7};
};

INSTANTIATE_TEST_SUITE_P(Seeds, SimtTest, testing::Values(1, 2, 3));

TEST_P(SimtTest, RowSumAddsEveryElementOnce) {
  const int rows = 5, columns = 1000;
  std::vector<float> x(rows * columns);
  for (float& v : x) v = static_cast<float>(random_() % 17) - 8;
  DeviceVector<float> device_x(x), sum(rows);
  ASSERT_EQ(LaunchRowSum({device_x.data(), sum.data(), rows, columns}, nullptr), cudaSuccess);
  const std::vector<float> got = sum.ToHost();
  for (int r = 0; r < rows; ++r) {
    float want = 0;
    for (int c = 0; c < columns; ++c) want += x[r * columns + c];
    EXPECT_EQ(got[r], want);  // whole numbers: exact in any order
  }
}

struct Problem {
  int m, n, k;
  std::vector<Bf16> a, b;
  std::vector<float> c;
};

// Small whole numbers: every product and sum is exact, so that any difference is a bug.
Problem WholeNumbers(int m, int n, int k, std::mt19937& random) {
  Problem p{m, n, k, std::vector<Bf16>(m * k), std::vector<Bf16>(n * k), std::vector<float>(m * n)};
  const auto fill = [&](std::vector<Bf16>& v) {
    for (Bf16& x : v) x = ToBf16(static_cast<float>(random() % 15) - 7);
  };
  fill(p.a);
  fill(p.b);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      for (int l = 0; l < k; ++l)
        p.c[i * n + j] += ToFloat(p.a[i * k + l]) * ToFloat(p.b[j * k + l]);
    }
  }
  return p;
}

void ExpectGemm(cudaError_t (*launch)(const GemmParams&, cudaStream_t), const Problem& problem) {
  DeviceVector<Bf16> a(problem.a), b(problem.b);
  DeviceVector<float> c(problem.c.size());
  const GemmParams params = {a.data(), b.data(), c.data(), problem.m, problem.n, problem.k};
  ASSERT_EQ(launch(params, nullptr), cudaSuccess);
  EXPECT_EQ(c.ToHost(), problem.c);
}

TEST_P(SimtTest, NaiveGemmIsExact) {
  ExpectGemm(LaunchNaiveGemm, WholeNumbers(3, 70, 40, random_));
}

TEST_P(SimtTest, MmaGemmIsExact) { ExpectGemm(LaunchMmaGemm, WholeNumbers(128, 64, 320, random_)); }

std::vector<Bf16> Tiled(const std::vector<Bf16>& matrix, int64_t rows, int64_t columns) {
  std::vector<Bf16> tiled(matrix.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      tiled[samples::TiledIndex(r, c, columns)] = matrix[r * columns + c];
    }
  }
  return tiled;
}

std::vector<Bf16> Transposed(const std::vector<Bf16>& matrix, int64_t rows, int64_t columns) {
  std::vector<Bf16> out(matrix.size());
  for (int64_t i = 0; i < rows * columns; ++i) out[i % columns * rows + i / columns] = matrix[i];
  return out;
}

TEST_P(SimtTest, WgmmaGemmIsExact) {
  Problem p = WholeNumbers(128, 256, 448, random_);
  p.a = Tiled(p.a, p.m, p.k);
  p.b = Tiled(p.b, p.n, p.k);
  ExpectGemm(samples::LaunchWgmmaGemm, p);
}

TEST_P(SimtTest, WgmmaGemmWithAInRegistersIsExact) {
  Problem p = WholeNumbers(64, 256, 448, random_);
  p.b = Tiled(Transposed(p.b, p.n, p.k), p.k, p.n);
  ExpectGemm(samples::LaunchWgmmaRegisterGemm, p);
}

}  // namespace
}  // namespace mea::simt
