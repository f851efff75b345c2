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

// Those of the target that Highway has chosen now.
RmsNormKernel GetRmsNormKernel();
AddRmsNormKernel GetAddRmsNormKernel();
SwiGluKernel GetSwiGluKernel();

}  // namespace mea::cpu
