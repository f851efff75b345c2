// The row-by-row kernels on the emulator, against plain loops in double precision.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/rowwise/rowwise.h"
#include "tests/kernels/cuda/device_rows.h"

namespace mea::cuda {
namespace {

// Length of a row, and how far into a wider buffer its elements begin.
struct Shape {
  int columns;
  int left;
};
void PrintTo(const Shape& s, std::ostream* out) { *out << s.columns << " at " << s.left; }

class RowwiseTest : public testing::TestWithParam<Shape> {
 protected:
  int columns() const { return GetParam().columns; }

  template <class T>
  DeviceRows<T> Rows(int rows, const std::vector<T>& values) const {
    return {rows, columns(), values, GetParam().left, 8};
  }
  template <class T>
  DeviceRows<T> Rows(int rows) const {
    return {rows, columns(), GetParam().left, 8};
  }
};

INSTANTIATE_TEST_SUITE_P(Shapes, RowwiseTest,
                         testing::Values(Shape{8, 0}, Shape{100, 0}, Shape{64, 3}, Shape{576, 8},
                                         Shape{2048, 0}, Shape{4104, 8}, Shape{8200, 5},
                                         Shape{16384, 0}));

TEST_P(RowwiseTest, EmbedWidensRowsOfTheTable) {
  const int vocab = 7;
  const std::vector<int32_t> ids = {3, 0, 6, 6, 1};
  const auto table = NormalBf16s(vocab * columns(), 1);
  const DeviceRows<Bf16> device_table = Rows(vocab, table);
  const simt::DeviceVector<int32_t> device_ids(ids);
  const DeviceRows<float> out = Rows<float>(5);
  ASSERT_EQ(LaunchEmbed({.table = device_table.data(),
                         .table_stride = device_table.stride(),
                         .ids = device_ids.data(),
                         .out = out.data(),
                         .out_stride = out.stride(),
                         .num_tokens = 5,
                         .hidden = columns()},
                        nullptr),
            cudaSuccess);
  std::vector<float> expected;
  for (const int32_t id : ids) {
    for (int i = 0; i < columns(); ++i) expected.push_back(ToFloat(table[id * columns() + i]));
  }
  EXPECT_EQ(out.ToHost(), expected);
}

std::vector<double> ReferenceNorm(const std::vector<float>& x, const std::vector<float>& gain,
                                  double eps) {
  const size_t n = gain.size();
  std::vector<double> out(x.size());
  for (size_t row = 0; row < x.size(); row += n) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += double{x[row + i]} * x[row + i];
    const double inverse_rms = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
    for (size_t i = 0; i < n; ++i) out[row + i] = gain[i] * (x[row + i] * inverse_rms);
  }
  return out;
}

constexpr float kEps = 1e-3f;

std::vector<Bf16> RunNorm(const DeviceRows<float>& x, const DeviceRows<Bf16>& out,
                          const std::vector<float>& gain, int rows) {
  const simt::DeviceVector<float> device_gain(gain);
  EXPECT_EQ(LaunchRmsNorm({.x = x.data(),
                           .x_stride = x.stride(),
                           .gain = device_gain.data(),
                           .eps = kEps,
                           .out = out.data(),
                           .out_stride = out.stride(),
                           .num_tokens = rows,
                           .hidden = static_cast<int>(gain.size())},
                          nullptr),
            cudaSuccess);
  return out.ToHost();
}

TEST_P(RowwiseTest, RmsNormAgreesWithTheDefinition) {
  const auto gain = NormalFloats(columns(), 2);
  const auto x = NormalFloats(7 * columns(), 3, 20.0);
  ExpectRounded(RunNorm(Rows(7, x), Rows<Bf16>(7), gain, 7), ReferenceNorm(x, gain, kEps));
}

TEST_P(RowwiseTest, RmsNormOfARowDependsOnThatRowAlone) {
  const auto gain = NormalFloats(columns(), 4);
  const auto x = NormalFloats(9 * columns(), 5);
  const auto all = RunNorm(Rows(9, x), Rows<Bf16>(9), gain, 9);
  const std::vector<float> last(x.end() - columns(), x.end());
  EXPECT_TRUE(
      SameBits(RunNorm(Rows(1, last), Rows<Bf16>(1), gain, 1), {all.end() - columns(), all.end()}));
}

TEST_P(RowwiseTest, AddRmsNormAddsInFloatAndNormsTheSum) {
  const int rows = 3;
  const auto gain = NormalFloats(columns(), 6);
  const auto delta = NormalBf16s(rows * columns(), 7);
  std::vector<float> sum = NormalFloats(rows * columns(), 8, 10.0);
  const DeviceRows<Bf16> device_delta = Rows(rows, delta);
  const DeviceRows<float> residual = Rows(rows, sum);
  const DeviceRows<Bf16> out = Rows<Bf16>(rows);
  const simt::DeviceVector<float> device_gain(gain);
  ASSERT_EQ(LaunchAddRmsNorm({.delta = device_delta.data(),
                              .delta_stride = device_delta.stride(),
                              .residual = residual.data(),
                              .residual_stride = residual.stride(),
                              .gain = device_gain.data(),
                              .eps = kEps,
                              .out = out.data(),
                              .out_stride = out.stride(),
                              .num_tokens = rows,
                              .hidden = columns()},
                             nullptr),
            cudaSuccess);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += ToFloat(delta[i]);
  EXPECT_EQ(residual.ToHost(), sum);
  ExpectRounded(out.ToHost(), ReferenceNorm(sum, gain, kEps));
}

std::vector<Bf16> RunNormRows(const DeviceRows<Bf16>& x, const DeviceRows<Bf16>& out,
                              const std::vector<float>& gain, int rows) {
  const simt::DeviceVector<float> device_gain(gain);
  EXPECT_EQ(LaunchNormRows({.x = x.data(),
                            .x_stride = x.stride(),
                            .gain = device_gain.data(),
                            .eps = kEps,
                            .out = out.data(),
                            .out_stride = out.stride(),
                            .num_tokens = rows,
                            .hidden = static_cast<int>(gain.size())},
                           nullptr),
            cudaSuccess);
  return out.ToHost();
}

std::vector<float> ToFloats(const std::vector<Bf16>& values) {
  std::vector<float> wide;
  for (const Bf16 value : values) wide.push_back(ToFloat(value));
  return wide;
}

TEST_P(RowwiseTest, NormRowsMayOverwriteARowAndDependsOnThatRowAlone) {
  const auto gain = NormalFloats(columns(), 11);
  const auto x = NormalBf16s(9 * columns(), 12, 20.0);
  const auto apart = RunNormRows(Rows(9, x), Rows<Bf16>(9), gain, 9);
  ExpectRounded(apart, ReferenceNorm(ToFloats(x), gain, kEps));
  const DeviceRows<Bf16> buffer = Rows(9, x);
  EXPECT_TRUE(SameBits(RunNormRows(buffer, buffer, gain, 9), apart));
  const std::vector<Bf16> last(x.end() - columns(), x.end());
  EXPECT_TRUE(SameBits(RunNormRows(Rows(1, last), Rows<Bf16>(1), gain, 1),
                       {apart.end() - columns(), apart.end()}));
}

// The residual and the output, one behind the other.
std::pair<std::vector<float>, std::vector<Bf16>> RunAddNormed(const DeviceRows<Bf16>& delta,
                                                              const DeviceRows<float>& residual,
                                                              const DeviceRows<Bf16>& out,
                                                              const std::vector<float>& gain,
                                                              int rows) {
  const simt::DeviceVector<float> device_gain(gain);
  EXPECT_EQ(LaunchAddRmsNorm({.delta = delta.data(),
                              .delta_stride = delta.stride(),
                              .delta_gain = device_gain.data(),
                              .delta_scale = 0.5f,
                              .residual = residual.data(),
                              .residual_stride = residual.stride(),
                              .gain = device_gain.data(),
                              .eps = kEps,
                              .out = out.data(),
                              .out_stride = out.stride(),
                              .num_tokens = rows,
                              .hidden = static_cast<int>(gain.size())},
                             nullptr),
            cudaSuccess);
  return {residual.ToHost(), out.ToHost()};
}

TEST_P(RowwiseTest, AddRmsNormNormsADeltaWithAGainAndDependsOnThatRowAlone) {
  const int rows = 9;
  const auto gain = NormalFloats(columns(), 13);
  const auto delta = NormalBf16s(rows * columns(), 14, 20.0);
  const auto before = NormalFloats(rows * columns(), 15, 10.0);
  const auto [sum, out] =
      RunAddNormed(Rows(rows, delta), Rows(rows, before), Rows<Bf16>(rows), gain, rows);
  const auto added = ReferenceNorm(ToFloats(delta), gain, kEps);
  for (size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(sum[i], before[i] + 0.5 * added[i], 3e-5);
  ExpectRounded(out, ReferenceNorm(sum, gain, kEps));

  const int last = (rows - 1) * columns();
  const auto [last_sum, last_out] = RunAddNormed(
      Rows(1, std::vector(delta.begin() + last, delta.end())),
      Rows(1, std::vector(before.begin() + last, before.end())), Rows<Bf16>(1), gain, 1);
  EXPECT_TRUE(SameBits(last_sum, {sum.begin() + last, sum.end()}));
  EXPECT_TRUE(SameBits(last_out, {out.begin() + last, out.end()}));
}

TEST(RowwiseLimitTest, LongerRowsThanANormTakesAreRefused) {
  EXPECT_EQ(LaunchRmsNorm({.num_tokens = 1, .hidden = kMaxNormHidden + 1}, nullptr),
            cudaErrorInvalidValue);
}

struct GateCase {
  cudaError_t (*launch)(const GateParams&, cudaStream_t);
  double (*activation)(double gate);
};
const GateCase kGateCases[] = {
    {LaunchSwiGlu, [](double g) { return g / (1 + std::exp(-g)); }},
    {LaunchGeGlu,
     [](double g) {
       return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
     }},
};

TEST_P(RowwiseTest, GatesTakeGateAndUpFromOneBufferAndMayOverwriteGate) {
  const int rows = 3;
  const int ffn = columns();
  for (const GateCase& gate : kGateCases) {
    std::vector<Bf16> both = NormalBf16s(rows * 2 * ffn, 9, 3.0);
    both[0] = ToBf16(-100.0f);  // e^100 is beyond float
    both[1] = ToBf16(90.0f);
    std::vector<double> expected(both.size());
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < 2 * ffn; ++i) {
        const double g = ToFloat(both[r * 2 * ffn + i]);
        expected[r * 2 * ffn + i] =
            i < ffn ? gate.activation(g) * ToFloat(both[r * 2 * ffn + ffn + i]) : g;
      }
    }
    expected[0] = 0;  // 1e-42: flushed
    const DeviceRows<Bf16> buffer(rows, 2 * ffn, both, GetParam().left, 8);
    const auto launch = [&](Bf16* out, int64_t stride) {
      return gate.launch({.gate = buffer.data(),
                          .gate_stride = buffer.stride(),
                          .up = buffer.data() + ffn,
                          .up_stride = buffer.stride(),
                          .out = out,
                          .out_stride = stride,
                          .num_tokens = rows,
                          .width = ffn},
                         nullptr);
    };
    const DeviceRows<Bf16> out = Rows<Bf16>(rows);
    ASSERT_EQ(launch(out.data(), out.stride()), cudaSuccess);
    const auto apart = out.ToHost();
    ASSERT_EQ(launch(buffer.data(), buffer.stride()), cudaSuccess);
    const auto in_place = buffer.ToHost();
    // 1 + tanh loses in doubles what a product with the sigmoid in float32 keeps.
    ExpectRounded(in_place, expected, 1e-12);  // and up is as it was
    for (int r = 0; r < rows; ++r) {
      EXPECT_EQ(std::memcmp(&apart[r * ffn], &in_place[r * 2 * ffn], ffn * sizeof(Bf16)), 0);
    }
  }
}

TEST_P(RowwiseTest, GatherRowsCopiesRowsInOrder) {
  const std::vector<int32_t> rows = {4, 4, 0, 2};
  const auto x = NormalBf16s(5 * columns(), 10);
  const DeviceRows<Bf16> device_x = Rows(5, x);
  const simt::DeviceVector<int32_t> device_rows(rows);
  const DeviceRows<Bf16> out = Rows<Bf16>(4);
  ASSERT_EQ(LaunchGatherRows({.x = device_x.data(),
                              .x_stride = device_x.stride(),
                              .rows = device_rows.data(),
                              .out = out.data(),
                              .out_stride = out.stride(),
                              .num_rows = 4,
                              .hidden = columns()},
                             nullptr),
            cudaSuccess);
  std::vector<Bf16> expected;
  for (const int32_t row : rows) {
    expected.insert(expected.end(), x.begin() + row * columns(), x.begin() + (row + 1) * columns());
  }
  EXPECT_TRUE(SameBits(out.ToHost(), expected));
}

}  // namespace
}  // namespace mea::cuda
