// Rotary embedding, query preparation and the writing of the cache by the CPU back end against the
// reference.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

#include "kernels/cpu/attention.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

constexpr int kTokens = 19;
constexpr int kPageSize = 32;
constexpr int kPages = 3;

Tensor InverseFrequencies(int head_dim, double theta) {
  Tensor inv_freq = Allocate({head_dim / 2}, DType::kF64);
  for (int i = 0; i < head_dim / 2; ++i) {
    inv_freq.view().as<double>()[i] = std::pow(theta, -2.0 * i / head_dim);
  }
  return inv_freq;
}

Tensor CosSin(Backend& backend, int head_dim) {
  std::vector<int32_t> positions(kTokens);
  for (int t = 0; t < kTokens; ++t) positions[t] = t * 6571;
  const Tensor ids = Ints(positions);
  const Tensor inv_freq = InverseFrequencies(head_dim, 10000.0);
  Tensor out = Poisoned({kTokens, head_dim}, backend.compute_dtype());
  backend.ComputeRope({.positions = ids.view(),
                       .inv_freq = inv_freq.view(),
                       .attention_factor = 1.25,
                       .out = out.view()});
  return out;
}

class CpuRopeTest : public ::testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  const int head_dim_ = std::get<1>(GetParam());
  std::unique_ptr<Backend> backend_ = MakeCpu(std::get<0>(GetParam()));
  std::unique_ptr<Backend> reference_ = CreateReferenceBackend();
};

TEST_P(CpuRopeTest, AnglesAreExactFarOut) {
  const Tensor actual = CosSin(*backend_, head_dim_);
  const Tensor expected = CosSin(*reference_, head_dim_);
  EXPECT_LE(RelativeError(actual.view(), expected.view()), 4e-8);  // one rounding to float
}

TEST_P(CpuRopeTest, QueriesAgreeWithTheReference) {
  const int head_dim = head_dim_;
  for (const bool normed : {false, true}) {
    const Tensor gain = normed ? Random({head_dim}, DType::kF32, 1) : Tensor();
    const Tensor q = Random({kTokens, 5, head_dim}, DType::kF32, 2);
    const Tensor expected = Convert(q, DType::kF64);
    backend_->PrepareQueries({.q = q.view(),
                              .gain = gain.view(),
                              .eps = 1e-3f,
                              .cos_sin = CosSin(*backend_, head_dim).view()});
    reference_->PrepareQueries({.q = expected.view(),
                                .gain = gain.view(),
                                .eps = 1e-3f,
                                .cos_sin = CosSin(*reference_, head_dim).view()});
    EXPECT_LE(RelativeError(q.view(), expected.view()), Tolerance::kRowwise);
  }
}

// The cache of a back end, with keys brought into token order.
struct Cache {
  Tensor keys, values, norms;
};

struct KvCase {
  DType dtype;
  bool gain;
  bool composed;  // QK-norm over virtual keys
};

Cache Append(Backend& backend, int head_dim, const KvCase& c) {
  const DType compute = backend.compute_dtype();
  const bool reference = compute == DType::kF64;
  const Tensor k = Convert(Random({kTokens, 3, head_dim}, DType::kF32, 3), compute);
  const Tensor v = Convert(Random({kTokens, 2, head_dim}, DType::kF32, 4), compute);
  const Tensor gain = Random({head_dim}, DType::kF32, 5);
  const Tensor mix = Random({3, 4}, DType::kF32, 6);
  Cache cache = {.keys = Poisoned({kPages, 3, kPageSize, head_dim}, c.dtype),
                 .values = Poisoned({kPages, 2, kPageSize, head_dim}, c.dtype),
                 .norms = Poisoned({kPages, 4, kPageSize}, DType::kF32)};
  std::vector<int32_t> slots(kTokens);
  for (int t = 0; t < kTokens; ++t) slots[t] = (t * 5 + 3) % (kPages * kPageSize);
  const Tensor slot_ids = Ints(slots);
  const Tensor cos_sin = CosSin(backend, head_dim);
  backend.AppendKv({.k = k.view(),
                    .v = v.view(),
                    .slots = slot_ids.view(),
                    .cos_sin = cos_sin.view(),
                    .gain = c.gain ? gain.view() : TensorView(),
                    .eps = 1e-3f,
                    .key_mix = c.composed ? mix.view() : TensorView(),
                    .kv = {.spec = {.key_heads = 3,
                                    .value_heads = 2,
                                    .head_dim = head_dim,
                                    .dtype = c.dtype,
                                    .key_norm_heads = c.composed ? 4 : 0},
                           .page_size = kPageSize,
                           .keys = cache.keys.view(),
                           .values = cache.values.view(),
                           .key_norms = c.composed ? cache.norms.view() : TensorView()}});
  // Only the written tokens, in order, as doubles.
  Cache written = {.keys = Allocate({kTokens, 3, head_dim}, DType::kF64),
                   .values = Allocate({kTokens, 2, head_dim}, DType::kF64),
                   .norms = Allocate({kTokens, 4}, DType::kF64)};
  const auto keys = ToDoubles(cache.keys.view());
  const auto values = ToDoubles(cache.values.view());
  const auto norms = ToDoubles(cache.norms.view());
  int64_t key = 0, value = 0, norm = 0;
  for (const int32_t slot : slots) {
    const int64_t page = slot / kPageSize, offset = slot % kPageSize;
    for (int head = 0; head < 3; ++head) {
      const int64_t slab = (page * 3 + head) * kPageSize * head_dim;
      for (int i = 0; i < head_dim; ++i) {
        const int64_t element =
            reference ? offset * head_dim + i : cpu::KeyOffset(c.dtype, offset, i, head_dim);
        written.keys.view().as<double>()[key++] = keys[slab + element];
      }
    }
    for (int head = 0; head < 2; ++head) {
      const int64_t slab = (page * 2 + head) * kPageSize * head_dim;
      for (int i = 0; i < head_dim; ++i) {
        const int64_t element =
            reference ? offset * head_dim + i : cpu::ValueOffset(c.dtype, offset, i, head_dim);
        written.values.view().as<double>()[value++] = values[slab + element];
      }
    }
    for (int head = 0; head < 4; ++head) {
      written.norms.view().as<double>()[norm++] = norms[(page * 4 + head) * kPageSize + offset];
    }
  }
  return written;
}

TEST_P(CpuRopeTest, CacheAgreesWithTheReference) {
  for (const KvCase& c : {KvCase{DType::kF32, false, false}, KvCase{DType::kF32, true, false},
                          KvCase{DType::kF32, true, true}, KvCase{DType::kBf16, true, true},
                          KvCase{DType::kBf16, false, false}}) {
    const Cache actual = Append(*backend_, head_dim_, c);
    const Cache expected = Append(*reference_, head_dim_, c);
    const double tolerance = c.dtype == DType::kBf16 ? Tolerance::kBf16Store : Tolerance::kRowwise;
    EXPECT_LE(RelativeError(actual.keys.view(), expected.keys.view()), tolerance);
    EXPECT_EQ(RelativeError(actual.values.view(), expected.values.view()), 0.0);
    if (c.composed) {
      EXPECT_LE(RelativeError(actual.norms.view(), expected.norms.view()), Tolerance::kRowwise);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(HeadDims, CpuRopeTest,
                         ::testing::Combine(::testing::ValuesIn(CpuTargets()),
                                            ::testing::Values(2, 8, 24, 64, 80, 128, 256)));

}  // namespace
}  // namespace mea
