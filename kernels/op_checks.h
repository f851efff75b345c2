#pragma once

#include "kernels/backend.h"

namespace mea {

// A back end's two dtypes of activations; host back ends have but one.
struct ActivationDTypes {
  ActivationDTypes(DType both) : compute(both), wide(both) {}  // NOLINT: implicit on purpose
  ActivationDTypes(DType compute_dtype, DType wide_dtype)
      : compute(compute_dtype), wide(wide_dtype) {}
  DType compute;
  DType wide;
};

// The door of every op, the same for all back ends: shapes, dtypes and strides as backend.h states
// them. A caller that breaks them has a bug, so these abort. Ids, positions and lengths are I32.
void CheckEmbed(TensorView table, TensorView ids, TensorView out, ActivationDTypes dtypes);
void CheckRmsNorm(TensorView x, TensorView gain, TensorView out, ActivationDTypes dtypes);
void CheckMatMul(TensorView x, const Projection& projection, ActivationDTypes dtypes);
void CheckAddRmsNorm(TensorView delta, TensorView residual, TensorView gain, TensorView out,
                     ActivationDTypes dtypes);
void CheckSwiGlu(TensorView gate, TensorView up, TensorView out, ActivationDTypes dtypes);
void CheckMoe(const MoeArgs& args, ActivationDTypes dtypes);
void CheckSigmoidGate(TensorView gate, TensorView up, TensorView out, ActivationDTypes dtypes);
void CheckMixHeads(TensorView x, TensorView mix, TensorView out, ActivationDTypes dtypes);
void CheckGatherRows(TensorView x, TensorView rows, TensorView out, ActivationDTypes dtypes);
void CheckComputeRope(const RopeArgs& args, ActivationDTypes dtypes);
void CheckPrepareQueries(const PrepareQueriesArgs& args, ActivationDTypes dtypes);
void CheckAppendKv(const AppendKvArgs& args, ActivationDTypes dtypes);
void CheckPagedAttention(const PagedAttentionArgs& args, ActivationDTypes dtypes);
void CheckInterleavedAttention(const InterleavedAttentionArgs& args, ActivationDTypes dtypes);
void CheckSample(TensorView logits, std::span<const SampleRow> rows,
                 std::span<const uint32_t> masks, size_t num_results, ActivationDTypes dtypes);
void CheckTokenLogprobs(TensorView logits, size_t num_rows, size_t num_results,
                        ActivationDTypes dtypes);
// Of q_offsets and kv_lens, where the host can read them.
void CheckSequenceLengths(const PagedAttentionArgs& args, std::span<const int32_t> q_offsets,
                          std::span<const int32_t> kv_lens);

}  // namespace mea
