#include "kernels/ops/attention.h"

#include <vector>

#include "kernels/ops/operands.h"

namespace mea {
namespace {

void CheckKv(const PagedKvView& kv, ActivationDTypes dtypes) {
  const KvSpec& spec = kv.spec;
  MEA_CHECK(spec.key_heads > 0 && spec.value_heads > 0 && spec.head_dim > 0);
  MEA_CHECK(kv.page_size > 0);
  const int64_t num_pages = kv.keys.shape[0];
  MEA_CHECK(HasShape(kv.keys, {num_pages, spec.key_heads, kv.page_size, spec.head_dim}));
  MEA_CHECK(HasShape(kv.values, {num_pages, spec.value_heads, kv.page_size, spec.head_dim}));
  MEA_CHECK(kv.keys.dtype == spec.dtype.keys && kv.values.dtype == spec.dtype.values);
  // A slab is one run of memory.
  MEA_CHECK(kv.keys.stride[2] == KvHeadElements(spec.head_dim, spec.dtype.keys));
  MEA_CHECK(kv.values.stride[2] == KvHeadElements(spec.head_dim, spec.dtype.values));
  if (spec.key_norm_heads > 0) {
    MEA_CHECK(HasShape(kv.key_norms, {num_pages, spec.key_norm_heads, kv.page_size}));
    MEA_CHECK(kv.key_norms.dtype == DType::kF32 || kv.key_norms.dtype == dtypes.wide);
  }
}

void CheckKeyBias(const PagedAttentionArgs& args, ActivationDTypes dtypes) {
  const auto& [heads, strides, offsets] = args.key_bias;
  if (heads.empty()) return;
  const KvSpec& spec = args.kv.spec;
  MEA_CHECK(spec.key_norm_heads == 0);
  CheckParameter(heads, {args.kv_heads, spec.head_dim});
  MEA_CHECK(strides.dtype == dtypes.wide && offsets.dtype == dtypes.wide);
  MEA_CHECK(HasShape(strides, {strides.shape[0], spec.head_dim}));
  MEA_CHECK(HasShape(offsets, {spec.head_dim, KeyBias::kStride}));
}

// q_offsets or kv_lens where the host can read them.
std::span<const int32_t> OnHost(const TensorView& view, std::span<const int32_t> host) {
  return view.device == Device::kCpu ? view.values<int32_t>() : host;
}

void CheckSequenceLengths(const PagedAttentionArgs& args) {
  const auto q_offsets = OnHost(args.q_offsets, args.host_q_offsets);
  const auto kv_lens = OnHost(args.kv_lens, args.host_kv_lens);
  MEA_CHECK(q_offsets.size() == kv_lens.size() + 1);
  MEA_CHECK(q_offsets.front() == 0 && q_offsets.back() == args.q.shape[0]);
  for (size_t s = 0; s < kv_lens.size(); ++s) {
    const int32_t q_len = q_offsets[s + 1] - q_offsets[s];
    // A row that sees no tokens is padding of the batch.
    MEA_CHECK(q_len >= 0 && (q_len <= kv_lens[s] || kv_lens[s] == 0));
    MEA_CHECK(kv_lens[s] <= args.page_table.shape[1] * args.kv.page_size);
    MEA_CHECK(args.key_bias.empty() ||
              kv_lens[s] <= args.key_bias.strides.shape[0] * KeyBias::kStride);
  }
}

AttentionShape ShapeOf(const PagedAttentionArgs& args) {
  return {.kv = args.kv.spec,
          .q_heads = static_cast<int>(args.q.shape[1]),
          .kv_heads = args.kv_heads,
          .composed = !args.mix.key.empty() || !args.mix.value.empty(),
          .window = args.window};
}

std::vector<SequenceLengths> LengthsOf(const PagedAttentionArgs& args) {
  const auto q_offsets = OnHost(args.q_offsets, args.host_q_offsets);
  const auto kv_lens = OnHost(args.kv_lens, args.host_kv_lens);
  std::vector<SequenceLengths> lengths;
  for (size_t i = 0; i < kv_lens.size(); ++i) {
    lengths.push_back({.q_len = q_offsets[i + 1] - q_offsets[i], .kv_len = kv_lens[i]});
  }
  return lengths;
}

}  // namespace

void Check(const ComputeRopeArgs& args, ActivationDTypes dtypes) {
  CheckIndices(args.positions, args.positions.shape[0]);
  MEA_CHECK(args.inv_freq.rank == 1 && args.inv_freq.dtype == DType::kF64);
  MEA_CHECK(args.pseudo_heads > 0);
  MEA_CHECK(HasShape(args.out,
                     {args.positions.shape[0] * args.pseudo_heads, 2 * args.inv_freq.shape[0]}));
  MEA_CHECK(args.out.dtype == dtypes.wide);
}
// Small compared with any other op.
OpCost Cost(const ComputeRopeArgs& /*args*/, ActivationDTypes /*dtypes*/) { return {}; }

void Check(const PrepareQueriesArgs& args, ActivationDTypes dtypes) {
  const TensorView& q = args.q;
  MEA_CHECK(q.rank == 3 && q.dtype == dtypes.compute);
  MEA_CHECK(q.shape[2] % 2 == 0);
  CheckParameter(args.gain, {q.shape[2]});
  MEA_CHECK(HasShape(args.cos_sin, {q.shape[0], q.shape[2]}) && args.cos_sin.dtype == dtypes.wide);
}
OpCost Cost(const PrepareQueriesArgs& args, ActivationDTypes dtypes) {
  const auto& shape = args.q.shape;
  return PrepareQueriesCost(shape[0], shape[1], shape[2], dtypes.compute);
}

void Check(const AppendKvArgs& args, ActivationDTypes dtypes) {
  CheckKv(args.kv, dtypes);
  const KvSpec& spec = args.kv.spec;
  const int64_t num_tokens = args.k.shape[0];
  MEA_CHECK(args.k.dtype == dtypes.compute && args.v.dtype == dtypes.compute);
  MEA_CHECK(HasShape(args.k, {num_tokens, spec.key_heads, spec.head_dim}));
  MEA_CHECK(HasShape(args.v, {num_tokens, spec.value_heads, spec.head_dim}));
  MEA_CHECK(spec.head_dim % 2 == 0);
  CheckIndices(args.slots, num_tokens);
  MEA_CHECK(HasShape(args.cos_sin, {num_tokens, spec.head_dim}) &&
            args.cos_sin.dtype == dtypes.wide);
  CheckParameter(args.gain, {spec.head_dim});
  if (spec.key_norm_heads > 0) {
    MEA_CHECK(!args.gain.empty() && !args.key_mix.empty());
    CheckParameter(args.key_mix, {spec.key_heads, spec.key_norm_heads});
  }
}
OpCost Cost(const AppendKvArgs& args, ActivationDTypes dtypes) {
  return AppendKvCost(args.k.shape[0], args.kv.spec, dtypes.compute);
}

void Check(const PrepareAndAppendArgs& args, ActivationDTypes dtypes) {
  MEA_CHECK(args.queries.q.shape[0] == args.kv.k.shape[0]);
  Check(args.queries, dtypes);
  Check(args.kv, dtypes);
}
OpCost Cost(const PrepareAndAppendArgs& args, ActivationDTypes dtypes) {
  return Cost(args.queries, dtypes) + Cost(args.kv, dtypes);
}

void Check(const PagedAttentionArgs& args, ActivationDTypes dtypes) {
  CheckKv(args.kv, dtypes);
  const KvSpec& spec = args.kv.spec;
  const int64_t num_seqs = args.kv_lens.shape[0];
  const TensorView& q = args.q;
  MEA_CHECK(q.dtype == dtypes.compute && HasShape(q, {q.shape[0], q.shape[1], spec.head_dim}));
  MEA_CHECK(args.kv_heads > 0 && q.shape[1] % args.kv_heads == 0);
  CheckIndices(args.kv_lens, num_seqs);
  CheckIndices(args.q_offsets, num_seqs + 1);
  MEA_CHECK(args.page_table.dtype == DType::kI32);
  MEA_CHECK(HasShape(args.page_table, {num_seqs, args.page_table.shape[1]}));
  MEA_CHECK(!args.mix.key.empty() || spec.key_heads == args.kv_heads);
  MEA_CHECK(!args.mix.value.empty() || spec.value_heads == args.kv_heads);
  CheckParameter(args.mix.key, {spec.key_heads, args.kv_heads});
  CheckParameter(args.mix.value, {spec.value_heads, args.kv_heads});
  MEA_CHECK(spec.key_norm_heads == 0 || spec.key_norm_heads == args.kv_heads);
  CheckKeyBias(args, dtypes);
  MEA_CHECK(args.window >= 0);
  CheckParameter(args.head_norm_gain, {q.shape[1], spec.head_dim});
  MEA_CHECK(HasShape(args.out, {q.shape[0], q.shape[1], spec.head_dim}));
  MEA_CHECK(args.out.dtype == dtypes.compute);
  CheckSequenceLengths(args);
}
OpCost Cost(const PagedAttentionArgs& args, ActivationDTypes dtypes) {
  return PagedAttentionCost(ShapeOf(args), LengthsOf(args), dtypes.compute);
}

void Check(const InterleavedAttentionArgs& args, ActivationDTypes dtypes) {
  const PagedAttentionArgs& paged = args.paged;
  const KvSpec& spec = paged.kv.spec;
  const int64_t h = paged.kv_heads;
  CheckKv(paged.kv, dtypes);
  MEA_CHECK(h > 0 && args.pseudo_heads > 0 && spec.head_dim % 2 == 0);
  MEA_CHECK(spec.key_heads == h && spec.value_heads == h && spec.key_norm_heads == 0);
  const TensorView& q = paged.q;
  MEA_CHECK(HasShape(q, {q.shape[0], args.pseudo_heads * h, spec.head_dim}));
  MEA_CHECK(HasShape(paged.out, {q.shape[0], args.pseudo_heads * h, spec.head_dim}));
  MEA_CHECK(q.dtype == dtypes.compute && paged.out.dtype == dtypes.compute);
  const int64_t num_seqs = paged.kv_lens.shape[0];
  CheckIndices(paged.kv_lens, num_seqs);
  CheckIndices(paged.q_offsets, num_seqs + 1);
  MEA_CHECK(paged.page_table.dtype == DType::kI32);
  MEA_CHECK(HasShape(paged.page_table, {num_seqs, paged.page_table.shape[1]}));
  MEA_CHECK(!paged.mix.key.empty() && !paged.mix.value.empty());
  CheckParameter(paged.mix.key, {h, h * args.pseudo_heads});
  CheckParameter(paged.mix.value, {h, h * args.pseudo_heads});
  MEA_CHECK(paged.window >= 0 && paged.head_norm_gain.empty() && paged.key_bias.empty());
  MEA_CHECK(HasShape(args.rotations, {args.pseudo_heads, spec.head_dim}));
  MEA_CHECK(args.rotations.dtype == dtypes.wide);
  CheckSequenceLengths(paged);
}
OpCost Cost(const InterleavedAttentionArgs& args, ActivationDTypes dtypes) {
  return InterleavedAttentionCost(ShapeOf(args.paged), args.pseudo_heads, LengthsOf(args.paged),
                                  dtypes.compute);
}

}  // namespace mea
