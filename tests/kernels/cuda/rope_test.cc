// Rotary embedding, query preparation and the writing of the paged cache on the emulator, against
// the reference back end.
#include "kernels/cuda/rope/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ostream>

#include "kernels/cuda/attention/slab_layout.h"
#include "tests/kernels/cuda/device_rows.h"
#include "tests/kernels/op_support.h"

namespace mea::cuda {
namespace {

constexpr int kTokens = 7;
constexpr int kQueryHeads = 5;
constexpr int kKeyHeads = 3;
constexpr int kValueHeads = 2;
constexpr int kNormHeads = 4;
constexpr int kPages = 3;
constexpr float kEps = 1e-3f;

struct Shape {
  int head_dim;
  int page_size;
  int left;  // columns before the queries in the buffer of q, k and v
};
void PrintTo(const Shape& s, std::ostream* out) {
  *out << "head_dim " << s.head_dim << ", page " << s.page_size << ", at " << s.left;
}

// QK-norm: none, of each key, of the virtual keys.
enum class Norm { kNone, kPlain, kComposed };

std::vector<float> Angles(int head_dim, const std::vector<int32_t>& positions) {
  std::vector<double> inv_freq(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) inv_freq[i] = std::pow(10000.0, -2.0 * i / head_dim);
  const int num_tokens = static_cast<int>(positions.size());
  const simt::DeviceVector<int32_t> device_positions(positions);
  const simt::DeviceVector<double> device_inv_freq(inv_freq);
  const simt::DeviceVector<float> cos_sin(static_cast<size_t>(num_tokens) * head_dim);
  EXPECT_EQ(LaunchComputeRope({.positions = device_positions.data(),
                               .inv_freq = device_inv_freq.data(),
                               .attention_factor = 1.25,
                               .cos_sin = cos_sin.data(),
                               .num_tokens = num_tokens,
                               .head_dim = head_dim},
                              nullptr),
            cudaSuccess);
  return cos_sin.ToHost();
}

std::vector<int32_t> Positions() {
  std::vector<int32_t> positions(kTokens);
  for (int t = 0; t < kTokens; ++t) positions[t] = t * 20571;
  return positions;
}

// The inputs of both sides, equal to the last bit.
struct Inputs {
  explicit Inputs(const Shape& s)
      : shape(s),
        width((kQueryHeads + kKeyHeads + kValueHeads) * s.head_dim),
        qkv(NormalBf16s(kTokens * width, 1)),
        gain(NormalFloats(s.head_dim, 2)),
        mix(NormalFloats(kKeyHeads * kNormHeads, 3)),
        cos_sin(Angles(s.head_dim, Positions())) {
    for (int t = 0; t < kTokens; ++t) slots.push_back((t * 41 + 5) % (kPages * s.page_size));
    slots[2] = -1;
    slots[5] = -7;
  }

  // Columns of the heads [first, first + count) as doubles.
  Tensor Heads(int first, int count) const {
    Tensor heads = Allocate({kTokens, count, shape.head_dim}, DType::kF64);
    double* out = heads.view().as<double>();
    for (int t = 0; t < kTokens; ++t) {
      const Bf16* row = qkv.data() + t * width + first * shape.head_dim;
      for (int i = 0; i < count * shape.head_dim; ++i) *out++ = ToFloat(row[i]);
    }
    return heads;
  }
  Tensor Floats(const std::vector<float>& values, std::initializer_list<int64_t> dims,
                DType dtype) const {
    Tensor tensor = Allocate(dims, DType::kF32);
    std::copy(values.begin(), values.end(), tensor.view().as<float>());
    return Convert(tensor, dtype);
  }

  Shape shape;
  int width;
  std::vector<Bf16> qkv;  // [kTokens, width]
  std::vector<float> gain, mix, cos_sin;
  std::vector<int32_t> slots;
};

// What the device makes of the inputs, launched by `launch`.
struct Result {
  std::vector<Bf16> qkv, keys, values;
  std::vector<float> norms;
};

template <class LaunchBoth>
Result RunOnDevice(const Inputs& in, Norm norm, LaunchBoth launch) {
  const auto [head_dim, page_size, left] = in.shape;
  const size_t page = static_cast<size_t>(kPages) * page_size;
  const DeviceRows<Bf16> qkv(kTokens, in.width, in.qkv, left, 8);
  const simt::DeviceVector<float> gain(in.gain), mix(in.mix), cos_sin(in.cos_sin);
  const simt::DeviceVector<int32_t> slots(in.slots);
  const simt::DeviceVector<Bf16> keys(page * kKeyHeads * head_dim);
  const simt::DeviceVector<Bf16> values(page * kValueHeads * head_dim);
  const simt::DeviceVector<float> norms(page * kNormHeads);
  const float* used_gain = norm == Norm::kNone ? nullptr : gain.data();
  const QueryParams queries = {.q = qkv.data(),
                               .q_stride = qkv.stride(),
                               .gain = used_gain,
                               .eps = kEps,
                               .cos_sin = cos_sin.data(),
                               .num_tokens = kTokens,
                               .q_heads = kQueryHeads,
                               .head_dim = head_dim};
  const AppendParams kv = {.k = qkv.data() + kQueryHeads * head_dim,
                           .k_stride = qkv.stride(),
                           .v = qkv.data() + (kQueryHeads + kKeyHeads) * head_dim,
                           .v_stride = qkv.stride(),
                           .slots = slots.data(),
                           .gain = used_gain,
                           .eps = 2 * kEps,
                           .key_mix = norm == Norm::kComposed ? mix.data() : nullptr,
                           .cos_sin = cos_sin.data(),
                           .keys = keys.data(),
                           .values = values.data(),
                           .key_norms = norms.data(),
                           .num_tokens = kTokens,
                           .key_heads = kKeyHeads,
                           .value_heads = kValueHeads,
                           .key_norm_heads = norm == Norm::kComposed ? kNormHeads : 0,
                           .head_dim = head_dim,
                           .page_size = page_size};
  launch(queries, kv);
  return {qkv.ToHost(), keys.ToHost(), values.ToHost(), norms.ToHost()};
}

Result RunFused(const Inputs& in, Norm norm) {
  return RunOnDevice(in, norm, [](const QueryParams& queries, const AppendParams& kv) {
    EXPECT_EQ(LaunchPrepareAndAppend(queries, kv, nullptr), cudaSuccess);
  });
}

class RopeTest : public testing::TestWithParam<Shape> {};

INSTANTIATE_TEST_SUITE_P(Shapes, RopeTest,
                         testing::Values(Shape{2, 64, 0}, Shape{24, 16, 0}, Shape{64, 64, 0},
                                         Shape{64, 64, 3}, Shape{64, 16, 8}, Shape{80, 64, 0},
                                         Shape{128, 128, 8}, Shape{192, 64, 0}, Shape{256, 64, 0},
                                         Shape{512, 64, 8}));

TEST_P(RopeTest, AnglesAreExactFarOut) {
  const int head_dim = GetParam().head_dim;
  const auto actual = Angles(head_dim, Positions());
  for (int t = 0; t < kTokens; ++t) {
    for (int i = 0; i < head_dim / 2; ++i) {
      const double angle = Positions()[t] * std::pow(10000.0, -2.0 * i / head_dim);
      EXPECT_FLOAT_EQ(actual[t * head_dim + i], 1.25 * std::cos(angle));
      EXPECT_FLOAT_EQ(actual[t * head_dim + head_dim / 2 + i], 1.25 * std::sin(angle));
    }
  }
}

TEST_P(RopeTest, QueriesAgreeWithTheReferenceAndKeysAndValuesAreLeft) {
  const Inputs in(GetParam());
  const int head_dim = in.shape.head_dim;
  for (const Norm norm : {Norm::kNone, Norm::kPlain}) {
    const Tensor q = in.Heads(0, kQueryHeads);
    const Tensor gain = in.Floats(in.gain, {head_dim}, DType::kF32);
    const Tensor cos_sin = in.Floats(in.cos_sin, {kTokens, head_dim}, DType::kF64);
    CreateReferenceBackend()->PrepareQueries(
        {.q = q.view(),
         .gain = norm == Norm::kNone ? TensorView() : gain.view(),
         .eps = kEps,
         .cos_sin = cos_sin.view()});
    std::vector<double> expected(in.qkv.size());
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = ToFloat(in.qkv[i]);
    const int q_width = kQueryHeads * head_dim;
    for (int t = 0; t < kTokens; ++t) {
      std::copy_n(q.view().as<double>() + t * q_width, q_width, expected.begin() + t * in.width);
    }
    ExpectRounded(RunFused(in, norm).qkv, expected, 2e-6);
  }
}

// The cache of the reference, in double precision and token order.
struct ReferenceCache {
  Tensor keys, values, norms;
};

ReferenceCache AppendByReference(const Inputs& in, Norm norm) {
  const int head_dim = in.shape.head_dim;
  const int page_size = in.shape.page_size;
  ReferenceCache cache = {Poisoned({kPages, kKeyHeads, page_size, head_dim}, DType::kF64),
                          Poisoned({kPages, kValueHeads, page_size, head_dim}, DType::kF64),
                          Poisoned({kPages, kNormHeads, page_size}, DType::kF64)};
  const Tensor gain = in.Floats(in.gain, {head_dim}, DType::kF32);
  const Tensor mix = in.Floats(in.mix, {kKeyHeads, kNormHeads}, DType::kF32);
  const bool composed = norm == Norm::kComposed;
  CreateReferenceBackend()->AppendKv(
      {.k = in.Heads(kQueryHeads, kKeyHeads).view(),
       .v = in.Heads(kQueryHeads + kKeyHeads, kValueHeads).view(),
       .slots = Ints(in.slots).view(),
       .cos_sin = in.Floats(in.cos_sin, {kTokens, head_dim}, DType::kF64).view(),
       .gain = norm == Norm::kNone ? TensorView() : gain.view(),
       .eps = 2 * kEps,
       .key_mix = composed ? mix.view() : TensorView(),
       .kv = {.spec = {.key_heads = kKeyHeads,
                       .value_heads = kValueHeads,
                       .head_dim = head_dim,
                       .dtype = DType::kF64,
                       .key_norm_heads = composed ? kNormHeads : 0},
              .page_size = page_size,
              .keys = cache.keys.view(),
              .values = cache.values.view(),
              .key_norms = composed ? cache.norms.view() : TensorView()}});
  return cache;
}

// Element by element: what the reference wrote, rounded; nothing (0xffff) where it wrote nothing.
void ExpectSlabs(const std::vector<Bf16>& actual, const Tensor& expected, const Inputs& in,
                 double slack) {
  const SlabLayout layout = {in.shape.page_size, in.shape.head_dim};
  const int num_slabs = static_cast<int>(actual.size()) / layout.slab_elements();
  const double* want = expected.view().as<double>();
  for (int slab = 0; slab < num_slabs; ++slab) {
    for (int token = 0; token < layout.page_size; ++token) {
      for (int i = 0; i < layout.head_dim; ++i, ++want) {
        const Bf16 got = actual[slab * layout.slab_elements() + layout.Offset(token, i)];
        if (std::isnan(*want)) {
          ASSERT_EQ(got.bits, 0xffff) << "slab " << slab << " token " << token << " element " << i;
        } else {
          ASSERT_NEAR(ToFloat(got), *want, 0x1p-8 * 1.001 * std::fabs(*want) + slack)
              << "slab " << slab << " token " << token << " element " << i;
        }
      }
    }
  }
}

TEST_P(RopeTest, CacheAgreesWithTheReferenceAndPaddedRowsLeaveNoTrace) {
  const Inputs in(GetParam());
  for (const Norm norm : {Norm::kNone, Norm::kPlain, Norm::kComposed}) {
    const Result actual = RunFused(in, norm);
    const ReferenceCache expected = AppendByReference(in, norm);
    ExpectSlabs(actual.keys, expected.keys, in, 2e-6);
    ExpectSlabs(actual.values, expected.values, in, 0);
    for (size_t i = 0; i < actual.norms.size(); ++i) {
      const double want = expected.norms.view().as<double>()[i];
      if (std::isnan(want)) {
        ASSERT_EQ(std::bit_cast<uint32_t>(actual.norms[i]), 0xffffffffu) << i;
      } else {
        ASSERT_NEAR(actual.norms[i], want, 5e-7 * want) << i;
      }
    }
  }
}

TEST_P(RopeTest, OneKernelDoesWhatTheTwoDo) {
  const Inputs in(GetParam());
  const Result together = RunFused(in, Norm::kComposed);
  const Result apart =
      RunOnDevice(in, Norm::kComposed, [](const QueryParams& queries, const AppendParams& kv) {
        EXPECT_EQ(LaunchAppendKv(kv, nullptr), cudaSuccess);
        EXPECT_EQ(LaunchPrepareQueries(queries, nullptr), cudaSuccess);
      });
  EXPECT_TRUE(SameBits(together.qkv, apart.qkv));
  EXPECT_TRUE(SameBits(together.keys, apart.keys));
  EXPECT_TRUE(SameBits(together.values, apart.values));
  EXPECT_TRUE(SameBits(together.norms, apart.norms));
}

TEST(RopeLimitTest, HeadsThatDoNotSplitInHalvesOrAreTooLongAreRefused) {
  EXPECT_EQ(LaunchPrepareQueries({.num_tokens = 1, .q_heads = 1, .head_dim = 63}, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(LaunchPrepareQueries({.num_tokens = 1, .q_heads = 1, .head_dim = kMaxRopeHeadDim + 2},
                                 nullptr),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace mea::cuda
