// The product for a handful of rows on the emulator, against plain loops in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>

#include "kernels/cuda/linear/skinny_gemm.h"
#include "tests/kernels/cuda/device_rows.h"

namespace mea::cuda {
namespace {

struct Shape {
  int out_features;
  int in_features;
};
void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.out_features << " x " << s.in_features;
}

class SkinnyGemmTest : public testing::TestWithParam<Shape> {
 protected:
  int n() const { return GetParam().out_features; }
  int k() const { return GetParam().in_features; }

  // x w^T, with the scratch of this shape used `repeats` times in a row.
  std::vector<float> Multiply(const std::vector<Bf16>& x, int repeats = 1) const {
    const int rows = static_cast<int>(x.size()) / k();
    const DeviceRows<Bf16> device_x(rows, k(), x, 8, 8);
    const DeviceRows<Bf16> w(n(), k(), w_, 16, 8);
    const DeviceRows<float> out(rows, n(), 3, 2);
    const simt::DeviceVector<float> partials(1 + SkinnyGemmPartials(n(), k()));
    const simt::DeviceVector<int> tickets(std::vector<int>(1 + SkinnyGemmTickets(n(), k())));
    for (int i = 0; i < repeats; ++i) {
      EXPECT_EQ(LaunchSkinnyGemm({.x = device_x.data(),
                                  .x_stride = device_x.stride(),
                                  .w = w.data(),
                                  .w_stride = w.stride(),
                                  .out_f32 = out.data(),
                                  .out_stride = out.stride(),
                                  .partials = partials.data(),
                                  .tickets = tickets.data(),
                                  .num_rows = rows,
                                  .in_features = k(),
                                  .out_features = n()},
                                 nullptr),
                cudaSuccess);
    }
    for (const int ticket : tickets.ToHost()) EXPECT_EQ(ticket, 0);
    return out.ToHost();
  }

  std::vector<Bf16> w_ = NormalBf16s(int64_t{GetParam().out_features} * GetParam().in_features, 1);
};

// Few and many tiles, split and not; ends of tiles, steps and splits inside and at their edges.
INSTANTIATE_TEST_SUITE_P(Shapes, SkinnyGemmTest,
                         testing::Values(Shape{1, 8}, Shape{16, 128}, Shape{7, 1000},
                                         Shape{40, 1024}, Shape{33, 2056}, Shape{100, 5000},
                                         Shape{1536, 264}, Shape{1550, 1288}));

TEST_P(SkinnyGemmTest, AgreesWithTheDefinition) {
  for (const int rows : {1, 3, kMaxSkinnyRows}) {
    const auto x = NormalBf16s(int64_t{rows} * k(), 2);
    const auto actual = Multiply(x);
    for (int r = 0; r < rows; ++r) {
      for (int o = 0; o < n(); ++o) {
        double sum = 0, size = 0;
        for (int i = 0; i < k(); ++i) {
          const double product = double{ToFloat(x[r * k() + i])} * ToFloat(w_[o * k() + i]);
          sum += product;
          size += std::fabs(product);
        }
        ASSERT_NEAR(actual[r * n() + o], sum, 1e-6 * size) << "row " << r << " output " << o;
      }
    }
  }
}

TEST_P(SkinnyGemmTest, ARowDependsNeitherOnTheOthersNorOnTheirNumber) {
  const auto x = NormalBf16s(int64_t{kMaxSkinnyRows} * k(), 3);
  const auto together = Multiply(x);
  for (int r = 0; r < kMaxSkinnyRows; r += 3) {
    const auto alone = Multiply({x.begin() + r * k(), x.begin() + (r + 1) * k()});
    EXPECT_TRUE(SameBits(alone, {together.begin() + r * n(), together.begin() + (r + 1) * n()}));
  }
}

TEST_P(SkinnyGemmTest, CallsMayShareTheScratch) {
  const auto x = NormalBf16s(int64_t{2} * k(), 4);
  EXPECT_TRUE(SameBits(Multiply(x, 3), Multiply(x)));
}

TEST(SkinnyGemmOutputTest, AddsTheBiasAndRoundsOnce) {
  const int rows = 5, n = 50, k = 256;
  const auto x = NormalBf16s(rows * k, 5);
  const auto w = NormalBf16s(n * k, 6);
  const auto bias = NormalFloats(n, 7, 10.0);
  const simt::DeviceVector<Bf16> device_x(x), device_w(w);
  const simt::DeviceVector<float> device_bias(bias);
  const DeviceRows<Bf16> out(rows, n, 1, 0);
  const simt::DeviceVector<float> partials(1 + SkinnyGemmPartials(n, k));
  const simt::DeviceVector<int> tickets(std::vector<int>(1 + SkinnyGemmTickets(n, k)));
  ASSERT_EQ(LaunchSkinnyGemm({.x = device_x.data(),
                              .x_stride = k,
                              .w = device_w.data(),
                              .w_stride = k,
                              .bias = device_bias.data(),
                              .out = out.data(),
                              .out_stride = out.stride(),
                              .partials = partials.data(),
                              .tickets = tickets.data(),
                              .num_rows = rows,
                              .in_features = k,
                              .out_features = n},
                             nullptr),
            cudaSuccess);
  std::vector<double> expected;
  for (int r = 0; r < rows; ++r) {
    for (int o = 0; o < n; ++o) {
      double sum = bias[o];
      for (int i = 0; i < k; ++i) {
        sum += double{ToFloat(x[r * k + i])} * ToFloat(w[o * k + i]);
      }
      expected.push_back(sum);
    }
  }
  ExpectRounded(out.ToHost(), expected, 1e-4);
}

TEST(SkinnyGemmOutputTest, RefusesWhatItCannotLoadInGranules) {
  const SkinnyGemmParams good = {
      .x_stride = 64, .w_stride = 64, .num_rows = 1, .in_features = 64, .out_features = 1};
  SkinnyGemmParams p = good;
  p.num_rows = kMaxSkinnyRows + 1;
  EXPECT_EQ(LaunchSkinnyGemm(p, nullptr), cudaErrorInvalidValue);
  p = good;
  p.in_features = 60;
  EXPECT_EQ(LaunchSkinnyGemm(p, nullptr), cudaErrorInvalidValue);
  p = good;
  p.w_stride = 65;
  EXPECT_EQ(LaunchSkinnyGemm(p, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace mea::cuda
