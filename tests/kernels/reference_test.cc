// The reference back end defines the ops, so it is checked against facts that do not come from it:
// the identities of MEA (arXiv 2601.19611), worked out here a second time in the expanded form.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/attention_case.h"

namespace mea {
namespace {

using Vector = std::vector<double>;

double Dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double InverseRms(const Vector& x, double eps) {
  return 1.0 / std::sqrt(Dot(x, x) / static_cast<double>(x.size()) + eps);
}

Vector Rotated(const Vector& x, double position, const Vector& inv_freq) {
  const size_t half = inv_freq.size();
  Vector y(x.size());
  for (size_t i = 0; i < half; ++i) {
    // As a complex number: (x_i + j x_{i + d/2}) e^{j angle}.
    const double angle = position * inv_freq[i];
    y[i] = x[i] * std::cos(angle) - x[i + half] * std::sin(angle);
    y[i + half] = x[i] * std::sin(angle) + x[i + half] * std::cos(angle);
  }
  return y;
}

double RandomValue(const TensorView& view, int64_t i) { return ToDoubles(view)[i]; }

class ReferenceTest : public ::testing::Test {
 protected:
  static constexpr int kTokens = 23, kHeadDim = 16, kPageSize = 16, kQueryHeads = 4, kHeads = 2;

  // Rows of `view` ([n, heads, head_dim]) as vectors.
  static Vector Head(const TensorView& view, int64_t row, int64_t head) {
    const auto all = ToDoubles(view);
    const int64_t first = (row * view.shape[1] + head) * view.shape[2];
    return Vector(all.begin() + first, all.begin() + first + view.shape[2]);
  }

  Tensor CosSin(const std::vector<int32_t>& positions) {
    Tensor out = Poisoned({static_cast<int64_t>(positions.size()), kHeadDim}, DType::kF64);
    const Tensor ids = Ints(positions);
    backend_->ComputeRope({.positions = ids.view(),
                           .inv_freq = TensorView::Of<double>(inv_freq_),
                           .out = out.view()});
    return out;
  }

  static std::vector<int32_t> Count(int n) {
    std::vector<int32_t> values(n);
    for (int i = 0; i < n; ++i) values[i] = i;
    return values;
  }

  // One sequence of kTokens, attended by its last token.
  Tensor Attend(int key_heads, int value_heads, const Tensor& k, const Tensor& v, const Tensor& q,
                const Tensor& gain, const HeadMix& mix, bool composed_norm) {
    const Tensor keys = Poisoned({2, key_heads, kPageSize, kHeadDim}, DType::kF64);
    const Tensor values = Poisoned({2, value_heads, kPageSize, kHeadDim}, DType::kF64);
    const Tensor norms = Poisoned({2, kHeads, kPageSize}, DType::kF64);
    const Tensor slots = Ints(Count(kTokens));
    const Tensor cos_sin = CosSin(Count(kTokens));
    PagedKvView kv = {.spec = {.key_heads = key_heads,
                               .value_heads = value_heads,
                               .head_dim = kHeadDim,
                               .dtype = DType::kF64,
                               .key_norm_heads = composed_norm ? kHeads : 0},
                      .page_size = kPageSize,
                      .keys = keys.view(),
                      .values = values.view()};
    if (composed_norm) kv.key_norms = norms.view();
    backend_->AppendKv({.k = k.view(),
                        .v = v.view(),
                        .slots = slots.view(),
                        .cos_sin = cos_sin.view(),
                        .gain = gain.view(),
                        .eps = kEps,
                        .key_mix = mix.key,
                        .kv = kv});
    const Tensor rotated = Convert(q, DType::kF64);
    const Tensor copy = Allocate({1, kQueryHeads, kHeadDim}, DType::kF64);
    std::copy_n(rotated.view().as<double>(), kQueryHeads * kHeadDim, copy.view().as<double>());
    backend_->PrepareQueries({.q = copy.view(), .cos_sin = CosSin({kTokens - 1}).view()});
    Tensor out = Poisoned({1, kQueryHeads, kHeadDim}, DType::kF64);
    const Tensor offsets = Ints({0, 1});
    const Tensor lens = Ints({kTokens});
    const Tensor table = Ints({0, 1});
    backend_->PagedAttention({.q = copy.view(),
                              .q_offsets = offsets.view(),
                              .kv_lens = lens.view(),
                              .page_table = table.view().Reshape({1, 2}),
                              .kv = kv,
                              .mix = mix,
                              .kv_heads = kHeads,
                              .scale = 0.25,
                              .out = out.view()});
    return out;
  }

  // Ordinary attention of the last token over virtual heads that are built, normed and rotated
  // one by one: the definition of MEA in its paper.
  Tensor Expected(const Tensor& k, const Tensor& v, const Tensor& q, const Tensor& gain,
                  const HeadMix& mix) {
    const auto compose = [&](const Tensor& x, const TensorView& w, int t, int head) {
      Vector sum(kHeadDim, 0.0);
      for (int c = 0; c < w.shape[0]; ++c) {
        const Vector component = Head(x.view(), t, c);
        for (int i = 0; i < kHeadDim; ++i) {
          sum[i] += RandomValue(w, c * w.shape[1] + head) * component[i];
        }
      }
      return sum;
    };
    Tensor out = Poisoned({1, kQueryHeads, kHeadDim}, DType::kF64);
    for (int head = 0; head < kQueryHeads; ++head) {
      const int g = head / (kQueryHeads / kHeads);
      const Vector query = Rotated(Head(q.view(), 0, head), kTokens - 1, inv_freq_);
      Vector weights(kTokens);
      double total = 0;
      for (int t = 0; t < kTokens; ++t) {
        Vector key = compose(k, mix.key, t, g);
        if (!gain.view().empty()) {
          const double inverse_rms = InverseRms(key, kEps);
          for (int i = 0; i < kHeadDim; ++i) key[i] *= inverse_rms * RandomValue(gain.view(), i);
        }
        total += weights[t] = std::exp(0.25 * Dot(query, Rotated(key, t, inv_freq_)));
      }
      double* row = out.view().as<double>() + head * kHeadDim;
      std::fill(row, row + kHeadDim, 0.0);
      for (int t = 0; t < kTokens; ++t) {
        const Vector value = compose(v, mix.value, t, g);
        for (int i = 0; i < kHeadDim; ++i) row[i] += weights[t] / total * value[i];
      }
    }
    return out;
  }

  static constexpr float kEps = 1e-3f;
  std::unique_ptr<Backend> backend_ = CreateReferenceBackend();
  const Vector inv_freq_ = {1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.005, 0.001};
  const Tensor k_ = Random({kTokens, 3, kHeadDim}, DType::kF64, 1);
  const Tensor v_ = Random({kTokens, 3, kHeadDim}, DType::kF64, 2);
  const Tensor q_ = Random({1, kQueryHeads, kHeadDim}, DType::kF64, 3);
  const Tensor key_mix_ = Random({3, kHeads}, DType::kF32, 4);
  const Tensor value_mix_ = Random({3, kHeads}, DType::kF32, 5);
  const Tensor gain_ = Random({kHeadDim}, DType::kF32, 6);
  const HeadMix mix_ = {.key = key_mix_.view(), .value = value_mix_.view()};
};

TEST_F(ReferenceTest, NarrowFormEqualsExpandThenAttend) {
  const Tensor actual = Attend(3, 3, k_, v_, q_, Tensor(), mix_, false);
  EXPECT_LE(RelativeError(actual.view(), Expected(k_, v_, q_, Tensor(), mix_).view()), 1e-12);
}

TEST_F(ReferenceTest, CachedScalarsMakeQkNormOfComposedKeysExact) {
  const Tensor actual = Attend(3, 3, k_, v_, q_, gain_, mix_, true);
  EXPECT_LE(RelativeError(actual.view(), Expected(k_, v_, q_, gain_, mix_).view()), 1e-12);
}

TEST_F(ReferenceTest, OneHotMixEqualsGroupedQueryAttention) {
  const Tensor k = Random({kTokens, kHeads, kHeadDim}, DType::kF64, 7);
  const Tensor v = Random({kTokens, kHeads, kHeadDim}, DType::kF64, 8);
  const Tensor one_hot = Allocate({kHeads, kHeads}, DType::kF32);
  for (int i = 0; i < kHeads; ++i) one_hot.view().row<float>(i)[i] = 1.0f;
  const HeadMix mix = {.key = one_hot.view(), .value = one_hot.view()};
  const Tensor plain = Attend(kHeads, kHeads, k, v, q_, Tensor(), {}, false);
  EXPECT_TRUE(
      BitwiseEqual(Attend(kHeads, kHeads, k, v, q_, Tensor(), mix, false).view(), plain.view()));
  EXPECT_LE(RelativeError(plain.view(), Expected(k, v, q_, Tensor(), mix).view()), 1e-12);
  // With QK-norm the two ways of norming a key, before and after the mix, agree as well.
  EXPECT_LE(RelativeError(Attend(kHeads, kHeads, k, v, q_, gain_, mix, true).view(),
                          Attend(kHeads, kHeads, k, v, q_, gain_, {}, false).view()),
            1e-12);
}

TEST_F(ReferenceTest, RotatedProductsDependOnDistanceAlone) {
  const Tensor x = Random({1, 1, kHeadDim}, DType::kF64, 9);
  const Tensor y = Random({1, 1, kHeadDim}, DType::kF64, 10);
  const auto rotated = [&](const Tensor& vector, int position) {
    const Tensor copy = Allocate({1, 1, kHeadDim}, DType::kF64);
    std::copy_n(vector.view().as<double>(), kHeadDim, copy.view().as<double>());
    backend_->PrepareQueries({.q = copy.view(), .cos_sin = CosSin({position}).view()});
    return ToDoubles(copy.view());
  };
  const double near = Dot(rotated(x, 17), rotated(y, 5));
  EXPECT_NEAR(Dot(rotated(x, 1017), rotated(y, 1005)), near, 1e-10);
  EXPECT_GT(std::abs(Dot(rotated(x, 18), rotated(y, 5)) - near), 1e-3);
}

TEST_F(ReferenceTest, WindowHidesWhatLiesBeforeIt) {
  AttentionCase c = {.q_heads = 2,
                     .kv_heads = 2,
                     .key_heads = 2,
                     .value_heads = 2,
                     .head_dim = 8,
                     .dtype = DType::kF64,
                     .window = 1,
                     .sequences = {{.kv_len = 9, .q_len = 3}}};
  // A window of one token: everybody sees only itself, and the output is its own value.
  const Tensor out = AttentionData(c).Run(*backend_);
  const Tensor v = Random({9, 2, 8}, DType::kF32, c.seed + 1);
  for (int row = 0; row < 3; ++row) {
    for (int i = 0; i < 16; ++i) {
      EXPECT_DOUBLE_EQ(out.view().as<double>()[row * 16 + i], v.view().row<float>(6 + row)[i]);
    }
  }
}

TEST_F(ReferenceTest, HeadNormGivesEachHeadItsGainsRms) {
  AttentionCase c = {.q_heads = 2,
                     .kv_heads = 2,
                     .key_heads = 2,
                     .value_heads = 2,
                     .head_dim = 8,
                     .dtype = DType::kF64,
                     .head_norm = true,
                     .sequences = {{.kv_len = 9, .q_len = 3}}};
  const Tensor normed = AttentionData(c).Run(*backend_);
  c.head_norm = false;
  const Tensor plain = AttentionData(c).Run(*backend_);
  const Tensor gain = Random({2, 8}, DType::kF32, c.seed + 5);
  for (int row = 0; row < 3; ++row) {
    for (int head = 0; head < 2; ++head) {
      const Vector out = Head(plain.view(), row, head);
      const double inverse_rms = InverseRms(out, 1e-5f);
      for (int i = 0; i < 8; ++i) {
        EXPECT_NEAR(Head(normed.view(), row, head)[i],
                    out[i] * inverse_rms * gain.view().row<float>(head)[i], 1e-12);
      }
    }
  }
}

// Rotating queries and what values made is exact: nothing but the rounding of keys and values
// distinguishes a cache in 4 bits from one in doubles.
TEST_F(ReferenceTest, InFourBitsRoundingIsTheOnlyDifference) {
  const AttentionCase plain = {.q_heads = 4,
                               .kv_heads = 2,
                               .key_heads = 2,
                               .value_heads = 2,
                               .head_dim = 24,
                               .sequences = {{.kv_len = 40, .q_len = 3}}};
  AttentionCase composed = plain;
  composed.key_mix = composed.value_mix = composed.head_norm = true;
  composed.value_heads = 3;
  AttentionCase biased = plain;
  biased.key_bias = true;
  AttentionCase interleaved = plain;
  interleaved.pseudo_heads = 2;
  interleaved.window = 9;
  for (AttentionCase c : {plain, composed, biased, interleaved}) {
    c.dtype = DType::kI4;
    const Tensor actual = AttentionData(c).Run(*backend_);
    c.dtype = DType::kF64;
    AttentionData rounded(c);
    rounded.RoundToInt4();  // to floats, where attention widens to doubles
    EXPECT_LE(RelativeError(actual.view(), rounded.Run(*backend_).view()), 1e-6);
  }
}

// The direct form of interleaved heads (arXiv 2602.21371): pseudo tokens made one by one, put one
// after the other into a cache P times as large, and attended as the tokens of an ordinary
// sequence.
class InterleavedTest : public ::testing::Test {
 protected:
  static constexpr int kTokens = 11, kHeadDim = 16, kHeads = 3;

  Tensor Angles(int num_positions, int pseudo_heads) {
    std::vector<int32_t> positions(num_positions);
    for (int i = 0; i < num_positions; ++i) positions[i] = i;
    const Tensor ids = Ints(positions);
    Tensor out = Poisoned({num_positions * pseudo_heads, kHeadDim}, DType::kF64);
    backend_->ComputeRope({.positions = ids.view(),
                           .inv_freq = TensorView::Of<double>(inv_freq_),
                           .pseudo_heads = pseudo_heads,
                           .out = out.view()});
    return out;
  }

  // [kTokens * P, kHeads, kHeadDim]: pseudo head p of head j is sum_m mix[m, j * P + p] x_m.
  Tensor PseudoTokens(const Tensor& x, const Tensor& mix, int pseudo_heads) {
    const Tensor out = Poisoned({int64_t{kTokens} * pseudo_heads, kHeads, kHeadDim}, DType::kF64);
    for (int64_t i = 0; i < out.view().num_elements(); ++i) {
      const int64_t e = i % kHeadDim;
      const int64_t j = i / kHeadDim % kHeads;
      const int64_t p = i / (kHeadDim * kHeads) % pseudo_heads;
      const int64_t token = i / (kHeadDim * kHeads * pseudo_heads);
      double sum = 0;
      for (int64_t m = 0; m < kHeads; ++m) {
        sum += mix.view().row<float>(m)[j * pseudo_heads + p] *
               x.view().as<double>()[(token * kHeads + m) * kHeadDim + e];
      }
      out.view().as<double>()[i] = sum;
    }
    return out;
  }

  // A cache of one page that holds k and v.
  PagedKvView Cache(const Tensor& k, const Tensor& v, TensorView cos_sin) {
    const int n = static_cast<int>(k.view().shape[0]);
    keys_ = Poisoned({1, kHeads, n, kHeadDim}, DType::kF64);
    values_ = Poisoned({1, kHeads, n, kHeadDim}, DType::kF64);
    std::vector<int32_t> slots(n);
    for (int i = 0; i < n; ++i) slots[i] = i;
    const Tensor ids = Ints(slots);
    const PagedKvView kv = {.spec = {.key_heads = kHeads,
                                     .value_heads = kHeads,
                                     .head_dim = kHeadDim,
                                     .dtype = DType::kF64},
                            .page_size = n,
                            .keys = keys_.view(),
                            .values = values_.view()};
    backend_->AppendKv(
        {.k = k.view(), .v = v.view(), .slots = ids.view(), .cos_sin = cos_sin, .kv = kv});
    return kv;
  }

  PagedAttentionArgs Args(const PagedKvView& kv, TensorView q, TensorView out) {
    offsets_ = Ints({0, static_cast<int32_t>(q.shape[0])});
    lens_ = Ints({kv.page_size});
    table_ = Ints({0});
    return {.q = q,
            .q_offsets = offsets_.view(),
            .kv_lens = lens_.view(),
            .page_table = table_.view().Reshape({1, 1}),
            .kv = kv,
            .kv_heads = kHeads,
            .scale = 0.25,
            .out = out};
  }

  std::unique_ptr<Backend> backend_ = CreateReferenceBackend();
  const Vector inv_freq_ = {1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.005, 0.001};
  const Tensor q_ = Random({kTokens, kHeads, kHeadDim}, DType::kF64, 1);
  const Tensor k_ = Random({kTokens, kHeads, kHeadDim}, DType::kF64, 2);
  const Tensor v_ = Random({kTokens, kHeads, kHeadDim}, DType::kF64, 3);
  Tensor keys_, values_, offsets_, lens_, table_;
};

TEST_F(InterleavedTest, ComponentHeadsGiveWhatAttentionOverPseudoTokensGives) {
  for (const int pseudo_heads : {1, 2, 3}) {
    const int64_t num_pseudo = int64_t{kTokens} * pseudo_heads;
    const int64_t mixed_heads = int64_t{kHeads} * pseudo_heads;
    const Tensor a_q = Random({kHeads, mixed_heads}, DType::kF32, 4);
    const Tensor a_k = Random({kHeads, mixed_heads}, DType::kF32, 5);
    const Tensor a_v = Random({kHeads, mixed_heads}, DType::kF32, 6);
    const Tensor angles = Angles(kTokens, pseudo_heads);
    // Rows (token, pseudo head) of h heads are [tokens, P * h] heads as the op wants them.
    const Tensor queries = PseudoTokens(q_, a_q, pseudo_heads);
    backend_->PrepareQueries({.q = queries.view(), .cos_sin = angles.view()});
    for (const int window : {0, 1, 4}) {
      const PagedKvView direct_kv = Cache(PseudoTokens(k_, a_k, pseudo_heads),
                                          PseudoTokens(v_, a_v, pseudo_heads), angles.view());
      const Tensor expected = Poisoned({num_pseudo, kHeads, kHeadDim}, DType::kF64);
      PagedAttentionArgs direct = Args(direct_kv, queries.view(), expected.view());
      direct.window = window * pseudo_heads;
      backend_->PagedAttention(direct);

      const TensorView every_pth =
          angles.view().Reshape({kTokens, pseudo_heads * kHeadDim}).Columns(0, kHeadDim);
      const PagedKvView kv = Cache(k_, v_, every_pth);
      const Tensor actual = Poisoned({kTokens, mixed_heads, kHeadDim}, DType::kF64);
      const Tensor rotations = Angles(pseudo_heads, 1);
      PagedAttentionArgs paged =
          Args(kv, queries.view().Reshape({kTokens, mixed_heads, kHeadDim}), actual.view());
      paged.window = window;
      paged.mix = {.key = a_k.view(), .value = a_v.view()};
      backend_->InterleavedAttention(
          {.paged = paged, .pseudo_heads = pseudo_heads, .rotations = rotations.view()});
      EXPECT_LE(RelativeError(actual.view(), expected.view()), 1e-12)
          << "P " << pseudo_heads << " W " << window;
      EXPECT_EQ(pseudo_heads * KvBytesPerToken(kv.spec) * kTokens,
                KvBytesPerToken(direct_kv.spec) * num_pseudo);
    }
  }
}

}  // namespace
}  // namespace mea
