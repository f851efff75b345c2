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
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16;
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

void CheckKv(const PagedKvView& kv, DType compute) {
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
    MEA_CHECK(kv.key_norms.dtype == DType::kF32 || kv.key_norms.dtype == compute);
  }
}

}  // namespace

void CheckEmbed(TensorView table, TensorView ids, TensorView out, DType compute) {
  MEA_CHECK(table.rank == 2 && IsStorage(table.dtype));
  CheckIndices(ids, ids.shape[0]);
  MEA_CHECK(HasShape(out, {ids.shape[0], table.shape[1]}) && out.dtype == compute);
}

void CheckRmsNorm(TensorView x, TensorView gain, TensorView out, DType compute) {
  MEA_CHECK(x.rank == 2 && x.dtype == compute);
  MEA_CHECK(!gain.empty());
  CheckParameter(gain, {x.shape[1]});
  MEA_CHECK(HasShape(out, {x.shape[0], x.shape[1]}) && out.dtype == compute);
}

void CheckMatMul(TensorView x, TensorView w, TensorView bias, TensorView out, DType compute) {
  MEA_CHECK(x.rank == 2 && x.dtype == compute && HasShape(x, {x.shape[0], x.shape[1]}));
  MEA_CHECK(IsStorage(w.dtype));
  MEA_CHECK(w.rank == 2 && HasShape(w, {w.shape[0], x.shape[1]}));
  CheckParameter(bias, {w.shape[0]});
  MEA_CHECK(HasShape(out, {x.shape[0], w.shape[0]}) && out.dtype == compute);
}

void CheckSwiGlu(TensorView gate, TensorView up, TensorView out, DType compute) {
  MEA_CHECK(gate.rank == 2 && gate.dtype == compute && up.dtype == compute);
  MEA_CHECK(HasShape(up, {gate.shape[0], gate.shape[1]}));
  MEA_CHECK(HasShape(out, {gate.shape[0], gate.shape[1]}) && out.dtype == compute);
}

void CheckGatherRows(TensorView x, TensorView rows, TensorView out, DType compute) {
  MEA_CHECK(x.rank == 2 && x.dtype == compute);
  CheckIndices(rows, rows.shape[0]);
  MEA_CHECK(HasShape(out, {rows.shape[0], x.shape[1]}) && out.dtype == compute);
}

void CheckComputeRope(const RopeArgs& args, DType compute) {
  CheckIndices(args.positions, args.positions.shape[0]);
  MEA_CHECK(args.inv_freq.rank == 1 && args.inv_freq.dtype == DType::kF64);
  MEA_CHECK(HasShape(args.out, {args.positions.shape[0], 2 * args.inv_freq.shape[0]}));
  MEA_CHECK(args.out.dtype == compute);
}

void CheckPrepareQueries(const PrepareQueriesArgs& args, DType compute) {
  const TensorView& q = args.q;
  MEA_CHECK(q.rank == 3 && q.dtype == compute);
  MEA_CHECK(q.shape[2] % 2 == 0);
  CheckParameter(args.gain, {q.shape[2]});
  MEA_CHECK(HasShape(args.cos_sin, {q.shape[0], q.shape[2]}) && args.cos_sin.dtype == compute);
}

void CheckAppendKv(const AppendKvArgs& args, DType compute) {
  CheckKv(args.kv, compute);
  const KvSpec& spec = args.kv.spec;
  const int64_t num_tokens = args.k.shape[0];
  MEA_CHECK(args.k.dtype == compute && args.v.dtype == compute);
  MEA_CHECK(HasShape(args.k, {num_tokens, spec.key_heads, spec.head_dim}));
  MEA_CHECK(HasShape(args.v, {num_tokens, spec.value_heads, spec.head_dim}));
  MEA_CHECK(spec.head_dim % 2 == 0);
  CheckIndices(args.slots, num_tokens);
  MEA_CHECK(HasShape(args.cos_sin, {num_tokens, spec.head_dim}) && args.cos_sin.dtype == compute);
  CheckParameter(args.gain, {spec.head_dim});
  if (spec.key_norm_heads > 0) {
    MEA_CHECK(!args.gain.empty() && !args.key_mix.empty());
    CheckParameter(args.key_mix, {spec.key_heads, spec.key_norm_heads});
  }
}

void CheckPagedAttention(const PagedAttentionArgs& args, DType compute) {
  CheckKv(args.kv, compute);
  const KvSpec& spec = args.kv.spec;
  const int64_t num_seqs = args.kv_lens.shape[0];
  const TensorView& q = args.q;
  MEA_CHECK(q.dtype == compute && HasShape(q, {q.shape[0], q.shape[1], spec.head_dim}));
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
  MEA_CHECK(args.window >= 0);
  CheckParameter(args.head_norm_gain, {q.shape[1], spec.head_dim});
  MEA_CHECK(HasShape(args.out, {q.shape[0], q.shape[1], spec.head_dim}));
  MEA_CHECK(args.out.dtype == compute);
  const int32_t* q_offsets = args.q_offsets.as<int32_t>();
  const int32_t* kv_lens = args.kv_lens.as<int32_t>();
  MEA_CHECK(q_offsets[0] == 0 && q_offsets[num_seqs] == q.shape[0]);
  for (int64_t s = 0; s < num_seqs; ++s) {
    const int32_t q_len = q_offsets[s + 1] - q_offsets[s];
    MEA_CHECK(q_len >= 0 && q_len <= kv_lens[s]);
    MEA_CHECK(kv_lens[s] <= args.page_table.shape[1] * args.kv.page_size);
  }
}

}  // namespace mea
