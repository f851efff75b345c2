#include "tests/kernels/attention_case.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "kernels/int4_heads.h"

namespace mea {

namespace {

// The scales behind integers are NaN.
Tensor PoisonedSlabs(int64_t pages, int64_t heads, int64_t page_size, int64_t head_dim,
                     DType dtype) {
  if (!IsIntegerCache(dtype)) return Poisoned({pages, heads, page_size, head_dim}, dtype);
  const int64_t slab = page_size * KvHeadBytes(head_dim, dtype);
  const Tensor memory = Poisoned({pages, heads, slab / 2}, DType::kBf16);
  TensorView view =
      TensorView::Dense(memory.view().data, dtype, {pages, heads, page_size, head_dim});
  view.stride = {heads * slab, slab, KvHeadElements(head_dim, dtype), 1};
  return Tensor(view, std::make_shared<Tensor>(memory));
}

Tensor Transposed(const TensorView& from) {
  const Tensor to = Allocate({from.shape[1], from.shape[0]}, from.dtype);
  for (int64_t i = 0; i < from.shape[0]; ++i) {
    for (int64_t j = 0; j < from.shape[1]; ++j) {
      if (from.dtype == DType::kF64) {
        to.view().row<double>(j)[i] = from.row<double>(i)[j];
      } else {
        to.view().row<float>(j)[i] = from.row<float>(i)[j];
      }
    }
  }
  return to;
}

}  // namespace

AttentionData::AttentionData(const AttentionCase& c) : case_(c) {
  int64_t num_queries = 0;
  for (const auto& sequence : c.sequences) num_queries += sequence.q_len;
  k_ = Random({NumTokens(), c.key_heads, c.head_dim}, c.inputs, c.seed);
  v_ = Random({NumTokens(), c.value_heads, c.head_dim}, c.inputs, c.seed + 1);
  q_ = Random({num_queries, c.q_heads, c.head_dim}, c.inputs, c.seed + 2);
  const int64_t mixed_heads = c.kv_heads * std::max(1, c.pseudo_heads);
  const bool mixes = c.pseudo_heads > 0;
  if (c.key_mix || mixes) key_mix_ = Random({c.key_heads, mixed_heads}, DType::kF32, c.seed + 3);
  if (c.value_mix || mixes) {
    value_mix_ = Random({c.value_heads, mixed_heads}, DType::kF32, c.seed + 4);
  }
  if (c.key_bias) key_bias_ = Random({c.kv_heads, c.head_dim}, DType::kF32, c.seed + 6, 5.0f);
  if (c.head_norm) head_norm_gain_ = Random({c.q_heads, c.head_dim}, DType::kF32, c.seed + 5);
}

void AttentionData::FillSequence(int seq, float value) {
  int64_t first = 0;
  for (int s = 0; s < seq; ++s) first += case_.sequences[s].kv_len;
  for (const TensorView& all : {k_.view(), v_.view()}) {
    const TensorView rows = all.Rows(first, case_.sequences[seq].kv_len);
    for (int64_t i = 0; i < rows.num_elements(); ++i) {
      if (rows.dtype == DType::kBf16) {
        rows.as<Bf16>()[i] = ToBf16(value);
      } else {
        rows.as<float>()[i] = value;
      }
    }
  }
}

void AttentionData::RoundToInt4() {
  const int64_t d = case_.head_dim;
  std::vector<uint8_t> integers(d);
  for (const Tensor& heads : {k_, v_}) {
    for (int64_t i = 0; i < heads.view().num_elements(); i += d) {
      float* const x = heads.view().as<float>() + i;
      const auto [scale, zero] = QuantizeInt4Head(x, d, integers.data());
      for (int64_t j = 0; j < d; ++j) {
        x[j] = ToFloat(scale) * static_cast<float>(integers[j]) + ToFloat(zero);
      }
      RotateHadamard(x, d);
    }
  }
}

int64_t AttentionData::NumTokens() const {
  int64_t count = 0;
  for (const auto& sequence : case_.sequences) count += sequence.kv_len;
  return count;
}

Tensor AttentionData::Angles(Backend& backend, int count, int step) const {
  const int head_dim = case_.head_dim;
  std::vector<double> inv_freq;
  for (int i = 0; i < head_dim / 2; ++i) inv_freq.push_back(std::pow(100.0, -2.0 * i / head_dim));
  std::vector<int32_t> positions(count);
  for (int i = 0; i < count; ++i) positions[i] = i * step;
  Tensor rotations = Poisoned({count, head_dim}, backend.wide_dtype());
  const Tensor ids = Ints(positions);
  backend.ComputeRope({.positions = ids.view(),
                       .inv_freq = TensorView::Of<double>(inv_freq),
                       .out = rotations.view()});
  return rotations;
}

Tensor AttentionData::Run(Backend& backend, int chunk) const {
  const AttentionCase& c = case_;
  const DType compute = backend.compute_dtype();
  const int num_seqs = static_cast<int>(c.sequences.size());
  int max_pages = 1;
  for (const auto& s : c.sequences) max_pages = std::max(max_pages, s.kv_len / c.page_size + 2);

  // More pages than needed, handed out in random order; all of them poisoned.
  const int num_pages = num_seqs * max_pages + 3;
  std::vector<int32_t> pages(num_pages);
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(c.seed + 9));
  PagedKvView kv = {.spec = {.key_heads = c.key_heads,
                             .value_heads = c.value_heads,
                             .head_dim = c.head_dim,
                             .dtype = c.dtype,
                             .key_norm_heads = c.key_norms ? c.kv_heads : 0},
                    .page_size = c.page_size};
  const Tensor keys = PoisonedSlabs(num_pages, c.key_heads, c.page_size, c.head_dim, c.dtype.keys);
  const Tensor values =
      PoisonedSlabs(num_pages, c.value_heads, c.page_size, c.head_dim, c.dtype.values);
  const Tensor norms = Poisoned({num_pages, std::max(1, kv.spec.key_norm_heads), c.page_size},
                                compute == DType::kF64 ? DType::kF64 : DType::kF32);
  kv.keys = keys.view();
  kv.values = values.view();
  if (c.key_norms) kv.key_norms = norms.view();

  // Entries behind the last page of a sequence are never looked at.
  const Tensor page_table = Ints(std::vector<int32_t>(num_seqs * max_pages, INT32_MAX));
  std::vector<int32_t> slots;
  size_t next_page = 0;
  for (int s = 0; s < num_seqs; ++s) {
    int32_t* row = page_table.view().as<int32_t>() + s * max_pages;
    for (int t = 0; t < c.sequences[s].kv_len; ++t) {
      if (t % c.page_size == 0) row[t / c.page_size] = pages[next_page++];
      slots.push_back(row[t / c.page_size] * c.page_size + t % c.page_size);
    }
  }

  // Angle zero and gain one: what lies in the cache is the same in every back end.
  const DType wide = backend.wide_dtype();
  const Tensor cos_sin = Allocate({NumTokens(), c.head_dim}, wide);
  for (int64_t t = 0; t < NumTokens(); ++t) {
    for (int i = 0; i < c.head_dim / 2; ++i) {
      if (wide == DType::kF64) cos_sin.view().row<double>(t)[i] = 1.0;
      if (wide == DType::kF32) cos_sin.view().row<float>(t)[i] = 1.0f;
    }
  }
  const Tensor gain = Ints(std::vector<int32_t>(c.head_dim, std::bit_cast<int32_t>(1.0f)));
  const Tensor k = Convert(k_, compute);
  const Tensor v = Convert(v_, compute);
  const Tensor slot_ids = Ints(slots);
  backend.AppendKv({.k = k.view(),
                    .v = v.view(),
                    .slots = slot_ids.view(),
                    .cos_sin = cos_sin.view(),
                    .gain = c.key_norms
                                ? TensorView::Dense(gain.view().data, DType::kF32, {c.head_dim})
                                : TensorView(),
                    .key_mix = c.key_norms ? key_mix_.view() : TensorView(),
                    .kv = kv});

  const TensorView table = page_table.view().Reshape({num_seqs, max_pages});
  const Tensor out = Poisoned({q_.view().shape[0], c.q_heads, c.head_dim}, compute);
  std::vector<int> done(num_seqs, 0);
  while (true) {
    std::vector<int> take(num_seqs);
    for (int s = 0; s < num_seqs; ++s) {
      const int left = c.sequences[s].q_len - done[s];
      take[s] = chunk > 0 ? std::min(chunk, left) : left;
    }
    if (std::accumulate(take.begin(), take.end(), 0) == 0) break;
    RunChunk(backend, kv, table, done, take, out.view());
    for (int s = 0; s < num_seqs; ++s) done[s] += take[s];
  }
  return out;
}

void AttentionData::RunChunk(Backend& backend, const PagedKvView& kv, TensorView page_table,
                             const std::vector<int>& done, const std::vector<int>& take,
                             TensorView out) const {
  const AttentionCase& c = case_;
  std::vector<int32_t> q_offsets = {0};
  std::vector<int32_t> kv_lens;
  std::vector<int32_t> rows;
  int32_t first = 0;
  for (size_t s = 0; s < c.sequences.size(); ++s) {
    const auto [kv_len, q_len] = c.sequences[s];
    q_offsets.push_back(q_offsets.back() + take[s]);
    kv_lens.push_back(kv_len - q_len + done[s] + take[s]);
    for (int i = 0; i < take[s]; ++i) rows.push_back(first + done[s] + i);
    first += q_len;
  }
  const int64_t width = int64_t{c.q_heads} * c.head_dim;
  const auto num_rows = static_cast<int64_t>(rows.size());
  const Tensor row_ids = Ints(rows);
  const Tensor all = Convert(q_, backend.compute_dtype());
  const Tensor q = Poisoned({num_rows, c.q_heads, c.head_dim}, backend.compute_dtype());
  backend.GatherRows({.x = all.view().Reshape({all.view().shape[0], width}),
                      .rows = row_ids.view(),
                      .out = q.view().Reshape({num_rows, width})});
  const Tensor result = Poisoned({num_rows, c.q_heads, c.head_dim}, backend.compute_dtype());
  const Tensor offsets = Ints(q_offsets);
  const Tensor lens = Ints(kv_lens);
  const PagedAttentionArgs args = {.q = q.view(),
                                   .q_offsets = offsets.view(),
                                   .kv_lens = lens.view(),
                                   .page_table = page_table,
                                   .host_q_offsets = q_offsets,
                                   .host_kv_lens = kv_lens,
                                   .kv = kv,
                                   .mix = mix(),
                                   .kv_heads = c.kv_heads,
                                   .window = c.window,
                                   .scale = 1.0 / std::sqrt(c.head_dim),
                                   .head_norm_gain = head_norm_gain_.view(),
                                   .out = result.view()};
  if (c.pseudo_heads > 0) {
    const Tensor rotations = Angles(backend, c.pseudo_heads, 1);
    backend.InterleavedAttention(
        {.paged = args, .pseudo_heads = c.pseudo_heads, .rotations = rotations.view()});
  } else if (c.key_bias) {
    const int longest = *std::max_element(kv_lens.begin(), kv_lens.end());
    const Tensor far = Angles(backend, longest / KeyBias::kStride + 1, KeyBias::kStride);
    const Tensor near = Transposed(Angles(backend, KeyBias::kStride, 1).view());
    PagedAttentionArgs biased = args;
    biased.key_bias = {.heads = key_bias_.view(), .strides = far.view(), .offsets = near.view()};
    backend.PagedAttention(biased);
  } else {
    backend.PagedAttention(args);
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    std::memcpy(out.Rows(rows[i], 1).data, result.view().Rows(i, 1).data,
                width * DTypeSize(backend.compute_dtype()));
  }
}

}  // namespace mea
