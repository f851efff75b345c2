#include "kernels/op_checks.h"

namespace mea {
namespace {

bool HasShape(const TensorView& view, std::initializer_list<int64_t> shape) {
  if (view.rank != static_cast<int>(shape.size())) return false;
  int i = 0;
  for (const int64_t extent : shape) {
    if (view.shape[i++] != extent) return false;
  }
  // Every op walks the last dimension with pointers.
  return view.rank == 0 || view.shape[view.rank - 1] <= 1 || view.stride[view.rank - 1] == 1;
}

bool IsStorage(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16 ||
         dtype == DType::kI8;
}

// An absent view passes: the caller asks first where one is required.
void CheckParameter(const TensorView& view, std::initializer_list<int64_t> shape) {
  if (view.empty()) return;
  MEA_CHECK(view.dtype == DType::kF32);
  MEA_CHECK(HasShape(view, shape));
}

void CheckIndices(const TensorView& view, int64_t count) {
  MEA_CHECK(view.dtype == DType::kI32);
  MEA_CHECK(HasShape(view, {count}));
}

void CheckKv(const PagedKvView& kv, ActivationDTypes dtypes) {
  const KvSpec& spec = kv.spec;
  MEA_CHECK(spec.key_heads > 0 && spec.value_heads > 0 && spec.head_dim > 0);
  MEA_CHECK(kv.page_size > 0);
  const int64_t num_pages = kv.keys.shape[0];
  MEA_CHECK(HasShape(kv.keys, {num_pages, spec.key_heads, kv.page_size, spec.head_dim}));
  MEA_CHECK(HasShape(kv.values, {num_pages, spec.value_heads, kv.page_size, spec.head_dim}));
  MEA_CHECK(kv.keys.dtype == spec.dtype && kv.values.dtype == spec.dtype);
  // A slab is one run of memory.
  MEA_CHECK(kv.keys.stride[2] == spec.head_dim && kv.values.stride[2] == spec.head_dim);
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

}  // namespace

void CheckEmbed(TensorView table, TensorView ids, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(table.rank == 2 && IsStorage(table.dtype));
  CheckIndices(ids, ids.shape[0]);
  MEA_CHECK(HasShape(out, {ids.shape[0], table.shape[1]}) && out.dtype == dtypes.wide);
}

void CheckRmsNorm(TensorView x, TensorView gain, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.wide);
  MEA_CHECK(!gain.empty());
  CheckParameter(gain, {x.shape[1]});
  MEA_CHECK(HasShape(out, {x.shape[0], x.shape[1]}) && out.dtype == dtypes.compute);
}

void CheckMatMul(TensorView x, const Projection& projection, ActivationDTypes dtypes) {
  const auto& [w, bias, out] = projection;
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.compute && HasShape(x, {x.shape[0], x.shape[1]}));
  MEA_CHECK(IsStorage(w.dtype));
  MEA_CHECK(w.rank == 2 && HasShape(w, {w.shape[0], x.shape[1]}));
  CheckParameter(bias, {w.shape[0]});
  MEA_CHECK(HasShape(out, {x.shape[0], w.shape[0]}));
  MEA_CHECK(out.dtype == dtypes.compute || out.dtype == dtypes.wide);
}

void CheckAddRmsNorm(TensorView delta, TensorView residual, TensorView gain, TensorView out,
                     ActivationDTypes dtypes) {
  CheckRmsNorm(residual, gain, out, dtypes);
  MEA_CHECK(HasShape(delta, {residual.shape[0], residual.shape[1]}));
  MEA_CHECK(delta.dtype == dtypes.compute);
}

void CheckSwiGlu(TensorView gate, TensorView up, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(gate.rank == 2 && gate.dtype == dtypes.compute && up.dtype == dtypes.compute);
  MEA_CHECK(HasShape(up, {gate.shape[0], gate.shape[1]}));
  MEA_CHECK(HasShape(out, {gate.shape[0], gate.shape[1]}) && out.dtype == dtypes.compute);
}

void CheckMoe(const MoeArgs& args, ActivationDTypes dtypes) {
  const int64_t num_tokens = args.x.shape[0];
  const int64_t hidden = args.x.shape[1];
  const int64_t num_experts = std::ssize(args.experts);
  MEA_CHECK(args.x.rank == 2 && HasShape(args.x, {num_tokens, hidden}));
  MEA_CHECK(args.x.dtype == dtypes.compute);
  MEA_CHECK(HasShape(args.router, {num_experts, hidden}) && IsStorage(args.router.dtype));
  MEA_CHECK(args.top_k >= 1 && args.top_k <= num_experts);
  const int64_t ffn = args.experts[0].gate.shape[0];
  for (const Expert& expert : args.experts) {
    MEA_CHECK(HasShape(expert.gate, {ffn, hidden}) && HasShape(expert.up, {ffn, hidden}));
    MEA_CHECK(HasShape(expert.down, {hidden, ffn}));
    for (const TensorView& w : {expert.gate, expert.up, expert.down}) {
      MEA_CHECK(IsStorage(w.dtype));
      // Rows may be prepared for all experts alike.
      MEA_CHECK((w.dtype == DType::kI8) == (args.experts[0].gate.dtype == DType::kI8));
    }
  }
  MEA_CHECK(HasShape(args.inner, {num_tokens * args.top_k, ffn}));
  MEA_CHECK(HasShape(args.rows, {num_tokens * args.top_k, hidden}));
  MEA_CHECK(args.inner.dtype == dtypes.compute && args.rows.dtype == dtypes.compute);
  MEA_CHECK(HasShape(args.out, {num_tokens, hidden}) && args.out.dtype == dtypes.compute);
}

void CheckSigmoidGate(TensorView gate, TensorView up, TensorView out, ActivationDTypes dtypes) {
  CheckSwiGlu(gate, up, out, dtypes);
}

void CheckMixHeads(TensorView x, TensorView mix, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(x.dtype == dtypes.compute && out.dtype == dtypes.compute && !mix.empty());
  MEA_CHECK(HasShape(x, {x.shape[0], x.shape[1], x.shape[2]}));
  MEA_CHECK(HasShape(out, {x.shape[0], out.shape[1], x.shape[2]}));
  CheckParameter(mix, {x.shape[1], out.shape[1]});
}

void CheckGatherRows(TensorView x, TensorView rows, TensorView out, ActivationDTypes dtypes) {
  MEA_CHECK(x.rank == 2 && x.dtype == dtypes.compute);
  CheckIndices(rows, rows.shape[0]);
  MEA_CHECK(HasShape(out, {rows.shape[0], x.shape[1]}) && out.dtype == dtypes.compute);
}

void CheckComputeRope(const RopeArgs& args, ActivationDTypes dtypes) {
  CheckIndices(args.positions, args.positions.shape[0]);
  MEA_CHECK(args.inv_freq.rank == 1 && args.inv_freq.dtype == DType::kF64);
  MEA_CHECK(args.pseudo_heads > 0);
  MEA_CHECK(HasShape(args.out,
                     {args.positions.shape[0] * args.pseudo_heads, 2 * args.inv_freq.shape[0]}));
  MEA_CHECK(args.out.dtype == dtypes.wide);
}

void CheckPrepareQueries(const PrepareQueriesArgs& args, ActivationDTypes dtypes) {
  const TensorView& q = args.q;
  MEA_CHECK(q.rank == 3 && q.dtype == dtypes.compute);
  MEA_CHECK(q.shape[2] % 2 == 0);
  CheckParameter(args.gain, {q.shape[2]});
  MEA_CHECK(HasShape(args.cos_sin, {q.shape[0], q.shape[2]}) && args.cos_sin.dtype == dtypes.wide);
}

void CheckAppendKv(const AppendKvArgs& args, ActivationDTypes dtypes) {
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

void CheckPagedAttention(const PagedAttentionArgs& args, ActivationDTypes dtypes) {
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
}

void CheckInterleavedAttention(const InterleavedAttentionArgs& args, ActivationDTypes dtypes) {
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
  MEA_CHECK(HasShape(args.turns, {args.pseudo_heads, spec.head_dim}));
  MEA_CHECK(args.turns.dtype == dtypes.wide);
}

void CheckSample(TensorView logits, std::span<const SampleRow> rows,
                 std::span<const uint32_t> masks, size_t num_results, ActivationDTypes dtypes) {
  CheckTokenLogprobs(logits, rows.size(), num_results, dtypes);
  const int64_t words = MaskWords(logits.shape[1]);
  MEA_CHECK(std::ssize(masks) % words == 0);
  for (const SampleRow& row : rows) MEA_CHECK(row.mask < std::ssize(masks) / words);
}

void CheckTokenLogprobs(TensorView logits, size_t num_rows, size_t num_results,
                        ActivationDTypes dtypes) {
  MEA_CHECK(logits.dtype == dtypes.wide);
  MEA_CHECK(HasShape(logits, {static_cast<int64_t>(num_rows), logits.shape[1]}));
  MEA_CHECK(num_results == num_rows);
}

void CheckSequenceLengths(const PagedAttentionArgs& args, std::span<const int32_t> q_offsets,
                          std::span<const int32_t> kv_lens) {
  MEA_CHECK(q_offsets.size() == kv_lens.size() + 1);
  MEA_CHECK(q_offsets.front() == 0 && q_offsets.back() == args.q.shape[0]);
  for (size_t s = 0; s < kv_lens.size(); ++s) {
    const int32_t q_len = q_offsets[s + 1] - q_offsets[s];
    // A row that sees nothing is there to fill the batch up.
    MEA_CHECK(q_len >= 0 && (q_len <= kv_lens[s] || kv_lens[s] == 0));
    MEA_CHECK(kv_lens[s] <= args.page_table.shape[1] * args.kv.page_size);
    MEA_CHECK(args.key_bias.empty() ||
              kv_lens[s] <= args.key_bias.strides.shape[0] * KeyBias::kStride);
  }
}

}  // namespace mea
