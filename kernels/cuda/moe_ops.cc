// CudaBackend's mixture of experts.

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/moe/moe.h"
#include "kernels/cuda/operands.h"

namespace mea::cuda {
namespace {

// Elements from an expert's matrix to the next one's.
int64_t ExpertStride(std::span<const Expert> experts, TensorView Expert::*matrix) {
  const Bf16* const first = At<Bf16>(experts[0].*matrix);
  const int64_t stride = experts.size() == 1 ? 0 : At<Bf16>(experts[1].*matrix) - first;
  for (size_t e = 0; e < experts.size(); ++e) {
    const TensorView& w = experts[e].*matrix;
    MEA_CHECK(w.is_dense() && At<Bf16>(w) == first + static_cast<int64_t>(e) * stride);
  }
  return stride;
}

}  // namespace

void CudaBackend::DoMoe(const MoeArgs& args) {
  const int num_tokens = static_cast<int>(args.x.shape[0]);
  const int num_experts = static_cast<int>(args.experts.size());
  const int num_slots = num_tokens * args.top_k;
  const int hidden = static_cast<int>(args.x.shape[1]);
  const int ffn = static_cast<int>(args.inner.shape[1]);
  // Prepare comes first.
  MEA_CHECK(num_slots <= moe_.max_slots && num_experts <= moe_.num_experts);
  const int64_t stride = ExpertStride(args.experts, &Expert::gate);
  MEA_CHECK(ExpertStride(args.experts, &Expert::up) == stride && args.router.is_dense());

  const ExpertProductParams gate_up{.x = At<Bf16>(args.x),
                                    .x_stride = args.x.stride[0],
                                    .slots_per_row = args.top_k,
                                    .w = At<Bf16>(args.experts[0].gate),
                                    .up = At<Bf16>(args.experts[0].up),
                                    .expert_stride = stride,
                                    .out = At<Bf16>(args.inner),
                                    .out_stride = args.inner.stride[0],
                                    .order = moe_.order,
                                    .tiles = moe_.tiles,
                                    .num_tiles = moe_.num_tiles,
                                    .num_slots = num_slots,
                                    .num_experts = num_experts,
                                    .in_features = hidden,
                                    .out_features = ffn};
  ExpertProductParams down = gate_up;
  down.x = At<Bf16>(args.inner);
  down.x_stride = args.inner.stride[0];
  down.slots_per_row = 1;
  down.w = At<Bf16>(args.experts[0].down);
  down.up = nullptr;
  down.expert_stride = ExpertStride(args.experts, &Expert::down);
  down.out = At<Bf16>(args.rows);
  down.out_stride = args.rows.stride[0];
  down.in_features = ffn;
  down.out_features = hidden;

  Op("Moe", [&] {
    const cudaStream_t stream = runtime_->stream();
    const auto launched = [&](cudaError_t error) { return runtime_->Check(error); };
    const bool ok = launched(LaunchRouter({.x = At<Bf16>(args.x),
                                           .x_stride = args.x.stride[0],
                                           .router = At<Bf16>(args.router),
                                           .logits = moe_.logits,
                                           .num_tokens = num_tokens,
                                           .num_experts = num_experts,
                                           .in_features = hidden},
                                          stream)) &&
                    launched(LaunchChooseExperts({.logits = moe_.logits,
                                                  .chosen = moe_.chosen,
                                                  .gates = moe_.gates,
                                                  .num_tokens = num_tokens,
                                                  .num_experts = num_experts,
                                                  .top_k = args.top_k,
                                                  .renormalise = args.renormalise},
                                                 stream)) &&
                    launched(LaunchGroupSlots({.chosen = moe_.chosen,
                                               .order = moe_.order,
                                               .tiles = moe_.tiles,
                                               .num_tiles = moe_.num_tiles,
                                               .num_slots = num_slots,
                                               .num_experts = num_experts},
                                              stream)) &&
                    launched(LaunchExpertProduct(gate_up, stream)) &&
                    launched(LaunchExpertProduct(down, stream));
    if (!ok) return;
    launched(LaunchCombineExperts({.rows = At<Bf16>(args.rows),
                                   .rows_stride = args.rows.stride[0],
                                   .gates = moe_.gates,
                                   .out = At<Bf16>(args.out),
                                   .out_stride = args.out.stride[0],
                                   .num_tokens = num_tokens,
                                   .top_k = args.top_k,
                                   .hidden = hidden},
                                  stream));
  });
}

}  // namespace mea::cuda
