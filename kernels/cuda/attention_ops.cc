// The ops of CudaBackend around attention: rotation, append to the cache, attention itself.

#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/rope/rope.h"

namespace mea::cuda {
namespace {

// The address of slabs that lie side by side, in any format of a cache here.
void* Slabs(TensorView slabs, int page_size) {
  if (slabs.empty()) return nullptr;
  MEA_CHECK(slabs.device == Device::kCuda);
  MEA_CHECK(slabs.dtype == DType::kBf16 || IsIntegerCache(slabs.dtype));
  MEA_CHECK(slabs.stride[1] * DTypeSize(slabs.dtype) ==
            page_size * KvHeadBytes(slabs.shape[3], slabs.dtype));
  MEA_CHECK(slabs.stride[0] == slabs.shape[1] * slabs.stride[1]);
  return slabs.data;
}

QueryParams ParamsOf(const PrepareQueriesArgs& args) {
  MEA_CHECK(HasDenseRows(args.q));
  return {.q = At<Bf16>(args.q),
          .q_stride = args.q.stride[0],
          .gain = At<float>(args.gain),
          .eps = args.eps,
          .cos_sin = At<float>(args.cos_sin),
          .cos_sin_stride = args.cos_sin.stride[0],
          .num_tokens = static_cast<int>(args.q.shape[0]),
          .q_heads = static_cast<int>(args.q.shape[1]),
          .head_dim = static_cast<int>(args.q.shape[2])};
}

AppendParams ParamsOf(const AppendKvArgs& args) {
  MEA_CHECK(HasDenseRows(args.k) && HasDenseRows(args.v));
  const PagedKvView& kv = args.kv;
  return {.k = At<Bf16>(args.k),
          .k_stride = args.k.stride[0],
          .v = At<Bf16>(args.v),
          .v_stride = args.v.stride[0],
          .slots = At<int32_t>(args.slots),
          .gain = At<float>(args.gain),
          .eps = args.eps,
          .key_mix = At<float>(args.key_mix),
          .cos_sin = At<float>(args.cos_sin),
          .cos_sin_stride = args.cos_sin.stride[0],
          .keys = Slabs(kv.keys, kv.page_size),
          .values = Slabs(kv.values, kv.page_size),
          .key_norms = At<float>(kv.key_norms),
          .num_tokens = static_cast<int>(args.k.shape[0]),
          .key_heads = kv.spec.key_heads,
          .value_heads = kv.spec.value_heads,
          .key_norm_heads = kv.spec.key_norm_heads,
          .head_dim = kv.spec.head_dim,
          .page_size = kv.page_size,
          .dtype = kv.spec.dtype};
}

AttentionParams ParamsOf(const PagedAttentionArgs& args) {
  MEA_CHECK(HasDenseRows(args.q) && args.out.is_dense() && args.key_bias.empty());
  const PagedKvView& kv = args.kv;
  return {.q = At<Bf16>(args.q),
          .q_stride = args.q.stride[0],
          .q_offsets = At<int32_t>(args.q_offsets),
          .kv_lens = At<int32_t>(args.kv_lens),
          .page_table = At<int32_t>(args.page_table),
          .keys = static_cast<const Bf16*>(Slabs(kv.keys, kv.page_size)),
          .values = static_cast<const Bf16*>(Slabs(kv.values, kv.page_size)),
          .key_norms = At<float>(kv.key_norms),
          .key_mix = At<float>(args.mix.key),
          .value_mix = At<float>(args.mix.value),
          .head_norm_gain = At<float>(args.head_norm_gain),
          .out = At<Bf16>(args.out),
          .num_rows = static_cast<int>(args.q.shape[0]),
          .num_seqs = static_cast<int>(args.kv_lens.shape[0]),
          .page_table_stride = static_cast<int>(args.page_table.stride[0]),
          .q_heads = static_cast<int>(args.q.shape[1]),
          .kv_heads = args.kv_heads,
          .key_heads = kv.spec.key_heads,
          .value_heads = kv.spec.value_heads,
          .head_dim = kv.spec.head_dim,
          .page_size = kv.page_size,
          .dtype = kv.spec.dtype,
          .window = args.window,
          .scale = static_cast<float>(args.scale),
          .head_norm_eps = args.head_norm_eps};
}

}  // namespace

void CudaBackend::DoComputeRope(const ComputeRopeArgs& args) {
  MEA_CHECK(args.out.is_dense());
  Launched("ComputeRope", [&](cudaStream_t stream) {
    return LaunchComputeRope({.positions = At<int32_t>(args.positions),
                              .inv_freq = At<double>(args.inv_freq),
                              .attention_factor = args.attention_factor,
                              .cos_sin = At<float>(args.out),
                              .num_tokens = static_cast<int>(args.positions.shape[0]),
                              .head_dim = static_cast<int>(args.out.shape[1]),
                              .pseudo_heads = args.pseudo_heads},
                             stream);
  });
}

void CudaBackend::DoPrepareQueries(const PrepareQueriesArgs& args) {
  Launched("PrepareQueries",
           [&](cudaStream_t stream) { return LaunchPrepareQueries(ParamsOf(args), stream); });
}

void CudaBackend::DoAppendKv(const AppendKvArgs& args) {
  Launched("AppendKv", [&](cudaStream_t stream) { return LaunchAppendKv(ParamsOf(args), stream); });
}

void CudaBackend::DoPrepareAndAppend(const PrepareAndAppendArgs& args) {
  Launched("PrepareAndAppend", [&](cudaStream_t stream) {
    return LaunchPrepareAndAppend(ParamsOf(args.queries), ParamsOf(args.kv), stream);
  });
}

// Within a run all layers share the work lists of the step; outside, each call is its own step.
void CudaBackend::BeginAttention(const PagedAttentionArgs& args) {
  MEA_CHECK(attention_.has_value());  // Prepare comes first
  if (!in_run_ || !std::exchange(step_has_begun_, true)) {
    attention_->BeginStep(args.host_q_offsets, args.host_kv_lens);
  }
}

AttentionOptions CudaBackend::AttentionHow() const {
  return {.kernel = options_.decode_kernel,
          .prefill_kernel = options_.prefill_kernel,
          .is_batch_invariant = options_.batch_invariant};
}

void CudaBackend::DoPagedAttention(const PagedAttentionArgs& args) {
  BeginAttention(args);
  const AttentionOptions how = AttentionHow();
  Launched("PagedAttention",
           [&](cudaStream_t stream) { return attention_->Run(ParamsOf(args), how, stream); });
}

void CudaBackend::DoInterleavedAttention(const InterleavedAttentionArgs& args) {
  BeginAttention(args.paged);
  AttentionParams params = ParamsOf(args.paged);
  params.kv_heads = params.q_heads;  // pseudo heads of keys are the columns of the mixes
  MEA_CHECK(args.rotations.is_dense());
  Launched("InterleavedAttention", [&](cudaStream_t stream) {
    return attention_->RunInterleaved(
        params, {.rotations = At<float>(args.rotations), .pseudo_heads = args.pseudo_heads},
        AttentionHow(), stream);
  });
}

}  // namespace mea::cuda
