#pragma once

// The ops that take each row by itself: embedding, norms, gates, mixes of heads and the
// gathering of rows.
// Activations and the table are BF16, the residual stream and the gains F32. Strides are in
// elements, from one row to the next. Rows are fastest if every row starts on a 16-byte boundary
// and its length is a multiple of 8; everything else works too. All return the error of the launch.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/sample.h"

namespace mea::cuda {

// out[i] = scale * table[ids[i]]; an id of -1 - j stands for the token that row j of the last
// sampling drew.
struct EmbedParams {
  const Bf16* table = nullptr;  // [vocab, hidden]
  int64_t table_stride = 0;
  const int32_t* ids = nullptr;         // [num_tokens], each below vocab
  const SampledToken* drawn = nullptr;  // as many as the ids name
  float scale = 1;
  float* out = nullptr;  // [num_tokens, hidden]
  int64_t out_stride = 0;
  int num_tokens = 0;
  int hidden = 0;
};
cudaError_t LaunchEmbed(const EmbedParams& params, cudaStream_t stream);

inline constexpr int kMaxNormHidden = 16384;

// out = gain * x / sqrt(mean(x^2) + eps), or x where the gain is null. hidden is at most
// kMaxNormHidden.
template <class T>
struct NormParams {
  const T* x = nullptr;  // [num_tokens, hidden]
  int64_t x_stride = 0;
  const float* gain = nullptr;  // [hidden]
  float eps = 0;
  Bf16* out = nullptr;  // [num_tokens, hidden]; may be x
  int64_t out_stride = 0;
  int num_tokens = 0;
  int hidden = 0;
};
cudaError_t LaunchRmsNorm(const NormParams<float>& params, cudaStream_t stream);
cudaError_t LaunchNormRows(const NormParams<Bf16>& params, cudaStream_t stream);

// residual += delta_scale * delta; out = RmsNorm(residual), or the residual where the gain is null.
// A delta with a gain is normed before it is added.
struct AddRmsNormParams {
  const Bf16* delta = nullptr;  // [num_tokens, hidden]
  int64_t delta_stride = 0;
  const float* delta_gain = nullptr;  // [hidden]
  float delta_scale = 1;
  float* residual = nullptr;  // [num_tokens, hidden]
  int64_t residual_stride = 0;
  const float* gain = nullptr;  // [hidden]
  float eps = 0;
  Bf16* out = nullptr;  // [num_tokens, hidden]; may be delta
  int64_t out_stride = 0;
  int num_tokens = 0;
  int hidden = 0;
};
cudaError_t LaunchAddRmsNorm(const AddRmsNormParams& params, cudaStream_t stream);

// gate and up may be columns of one buffer [num_tokens, 2 * width]; out may be gate.
struct GateParams {
  const Bf16* gate = nullptr;  // [num_tokens, width]
  int64_t gate_stride = 0;
  const Bf16* up = nullptr;  // [num_tokens, width]
  int64_t up_stride = 0;
  Bf16* out = nullptr;  // [num_tokens, width]
  int64_t out_stride = 0;
  int num_tokens = 0;
  int width = 0;
};
// out = silu(gate) * up
cudaError_t LaunchSwiGlu(const GateParams& params, cudaStream_t stream);
// out = gelu_tanh(gate) * up
cudaError_t LaunchGeGlu(const GateParams& params, cudaStream_t stream);
// out = scale * sigmoid(gate) * up
cudaError_t LaunchSigmoidGate(const GateParams& params, float scale, cudaStream_t stream);

// out[n, g] = sum_c mix[c, g] * x[n, c], sums in F32 in the order of c.
struct MixHeadsParams {
  const Bf16* x = nullptr;     // [num_tokens, in_heads, head_dim], heads of a token adjacent
  int64_t x_stride = 0;        // from token to token
  const float* mix = nullptr;  // [in_heads, out_heads]
  Bf16* out = nullptr;         // [num_tokens, out_heads, head_dim], likewise
  int64_t out_stride = 0;
  int num_tokens = 0;
  int in_heads = 0;
  int out_heads = 0;
  int head_dim = 0;
};
cudaError_t LaunchMixHeads(const MixHeadsParams& params, cudaStream_t stream);

// out[i] = x[rows[i]]
struct GatherRowsParams {
  const Bf16* x = nullptr;  // [*, hidden]
  int64_t x_stride = 0;
  const int32_t* rows = nullptr;  // [num_rows]
  Bf16* out = nullptr;            // [num_rows, hidden]
  int64_t out_stride = 0;
  int num_rows = 0;
  int hidden = 0;
};
cudaError_t LaunchGatherRows(const GatherRowsParams& params, cudaStream_t stream);

}  // namespace mea::cuda
