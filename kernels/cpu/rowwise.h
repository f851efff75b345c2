#pragma once

#include <cstdint>

namespace mea::cpu {

// Kernels over one row of `count` floats; the back end spreads the rows over threads.

// out = gain * x / sqrt(mean(x^2) + eps); out may be x.
using RmsNormKernel = void (*)(const float* x, const float* gain, float eps, int64_t count,
                               float* out);
// residual += delta, then as above from the residual.
using AddRmsNormKernel = void (*)(const float* delta, float* residual, const float* gain, float eps,
                                  int64_t count, float* out);
// out = gate / (1 + exp(-gate)) * up; out may be gate.
using SwiGluKernel = void (*)(const float* gate, const float* up, int64_t count, float* out);

// out = scale / (1 + exp(-gate)) * up; out may be gate.
using SigmoidGateKernel = void (*)(const float* gate, const float* up, float scale, int64_t count,
                                   float* out);

// The heads of one token; strides in floats, from one head, or row of the mix, to the next.
struct MixHeadsRow {
  const float* x;  // [in_heads, head_dim]
  int64_t x_stride;
  const float* mix;  // [in_heads, out_heads]
  int64_t mix_stride;
  float* out;  // [out_heads, head_dim]
  int64_t out_stride;
  int64_t in_heads;
  int64_t out_heads;
  int64_t head_dim;
};
// out[g] = sum_c mix[c, g] * x[c], in the order of c.
using MixHeadsKernel = void (*)(const MixHeadsRow& row);

// The kernels of the target that Highway has chosen.
RmsNormKernel GetRmsNormKernel();
AddRmsNormKernel GetAddRmsNormKernel();
SwiGluKernel GetSwiGluKernel();
SigmoidGateKernel GetSigmoidGateKernel();
MixHeadsKernel GetMixHeadsKernel();

}  // namespace mea::cpu
