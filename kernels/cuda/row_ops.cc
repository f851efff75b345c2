// The ops of CudaBackend that treat rows alike: embedding, norms, products, gates.

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/operands.h"
#include "kernels/cuda/rowwise/rowwise.h"

namespace mea::cuda {
namespace {

// Side by side in memory, the second behind the first.
bool IsBehind(TensorView a, TensorView b, int64_t elements) {
  return static_cast<std::byte*>(a.data) + elements * DTypeSize(a.dtype) == b.data;
}

// Whether one product can compute both: weights and biases below each other, outputs side by side.
bool CanJoin(const Projection& a, const Projection& b) {
  return a.w.is_dense() && b.w.is_dense() && IsBehind(a.w, b.w, a.w.num_elements()) &&
         a.bias.empty() == b.bias.empty() &&
         (a.bias.empty() || IsBehind(a.bias, b.bias, a.bias.shape[0])) &&
         a.out.dtype == b.out.dtype && a.out.stride[0] == b.out.stride[0] &&
         IsBehind(a.out, b.out, a.out.shape[1]);
}

Projection Join(Projection a, const Projection& b) {
  a.w.shape[0] += b.w.shape[0];
  if (!a.bias.empty()) a.bias.shape[0] += b.bias.shape[0];
  a.out.shape[1] += b.out.shape[1];
  return a;
}

// Of RmsNorm and NormRows.
template <typename T, typename Args>
NormParams<T> Norm(const Args& args) {
  return {.x = At<T>(args.x),
          .x_stride = args.x.stride[0],
          .gain = At<float>(args.gain),
          .eps = args.eps,
          .out = At<Bf16>(args.out),
          .out_stride = args.out.stride[0],
          .num_tokens = static_cast<int>(args.x.shape[0]),
          .hidden = static_cast<int>(args.x.shape[1])};
}

// Of an op out = f(gate) * up.
template <typename Args>
GateParams Gate(const Args& args) {
  return {.gate = At<Bf16>(args.gate),
          .gate_stride = args.gate.stride[0],
          .up = At<Bf16>(args.up),
          .up_stride = args.up.stride[0],
          .out = At<Bf16>(args.out),
          .out_stride = args.out.stride[0],
          .num_tokens = static_cast<int>(args.gate.shape[0]),
          .width = static_cast<int>(args.gate.shape[1])};
}

}  // namespace

void CudaBackend::DoEmbed(const EmbedArgs& args) {
  const auto& [table, ids, scale, out] = args;
  Launched("Embed", [&](cudaStream_t stream) {
    return LaunchEmbed({.table = At<Bf16>(table),
                        .table_stride = table.stride[0],
                        .ids = At<int32_t>(ids),
                        .drawn = samples_->drawn(),
                        .scale = scale,
                        .out = At<float>(out),
                        .out_stride = out.stride[0],
                        .num_tokens = static_cast<int>(ids.shape[0]),
                        .hidden = static_cast<int>(table.shape[1])},
                       stream);
  });
}

void CudaBackend::DoRmsNorm(const RmsNormArgs& args) {
  Launched("RmsNorm",
           [&](cudaStream_t stream) { return LaunchRmsNorm(Norm<float>(args), stream); });
}

void CudaBackend::DoAddRmsNorm(const AddRmsNormArgs& args) {
  const auto& [delta, delta_gain, delta_scale, residual, gain, eps, out] = args;
  Launched("AddRmsNorm", [&](cudaStream_t stream) {
    return LaunchAddRmsNorm({.delta = At<Bf16>(delta),
                             .delta_stride = delta.stride[0],
                             .delta_gain = At<float>(delta_gain),
                             .delta_scale = delta_scale,
                             .residual = At<float>(residual),
                             .residual_stride = residual.stride[0],
                             .gain = At<float>(gain),
                             .eps = eps,
                             .out = At<Bf16>(out),
                             .out_stride = out.stride[0],
                             .num_tokens = static_cast<int>(delta.shape[0]),
                             .hidden = static_cast<int>(delta.shape[1])},
                            stream);
  });
}

void CudaBackend::DoNormRows(const NormRowsArgs& args) {
  Launched("NormRows",
           [&](cudaStream_t stream) { return LaunchNormRows(Norm<Bf16>(args), stream); });
}

void CudaBackend::DoMatMul(const MatMulArgs& args) {
  const auto& [x, projections] = args;
  MEA_CHECK(!device_scratch_.view().empty());  // Prepare comes first
  At<Bf16>(x);
  for (const Projection& p : projections) {
    At<Bf16>(p.w);
    At<float>(p.bias);
  }
  Op("MatMul", [&] {
    for (size_t i = 0; i < projections.size();) {
      Projection joined = projections[i];
      for (++i; i < projections.size() && CanJoin(joined, projections[i]); ++i) {
        joined = Join(joined, projections[i]);
      }
      gemm_->Run(x, joined);
    }
  });
}

void CudaBackend::DoGatedActivation(const GatedActivationArgs& args) {
  const auto launch = args.activation == Activation::kSilu ? LaunchSwiGlu : LaunchGeGlu;
  Launched("GatedActivation", [&](cudaStream_t stream) { return launch(Gate(args), stream); });
}

void CudaBackend::DoSigmoidGate(const SigmoidGateArgs& args) {
  Launched("SigmoidGate",
           [&](cudaStream_t stream) { return LaunchSigmoidGate(Gate(args), args.scale, stream); });
}

void CudaBackend::DoMixHeads(const MixHeadsArgs& args) {
  const auto& [x, mix, out] = args;
  MEA_CHECK(HasDenseRows(x) && HasDenseRows(out) && mix.is_dense());
  Launched("MixHeads", [&](cudaStream_t stream) {
    return LaunchMixHeads({.x = At<Bf16>(x),
                           .x_stride = x.stride[0],
                           .mix = At<float>(mix),
                           .out = At<Bf16>(out),
                           .out_stride = out.stride[0],
                           .num_tokens = static_cast<int>(x.shape[0]),
                           .in_heads = static_cast<int>(x.shape[1]),
                           .out_heads = static_cast<int>(out.shape[1]),
                           .head_dim = static_cast<int>(x.shape[2])},
                          stream);
  });
}

void CudaBackend::DoGatherRows(const GatherRowsArgs& args) {
  const auto& [x, rows, out] = args;
  Launched("GatherRows", [&](cudaStream_t stream) {
    return LaunchGatherRows({.x = At<Bf16>(x),
                             .x_stride = x.stride[0],
                             .rows = At<int32_t>(rows),
                             .out = At<Bf16>(out),
                             .out_stride = out.stride[0],
                             .num_rows = static_cast<int>(rows.shape[0]),
                             .hidden = static_cast<int>(x.shape[1])},
                            stream);
  });
}

}  // namespace mea::cuda
