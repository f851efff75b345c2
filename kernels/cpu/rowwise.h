#pragma once

#include "kernels/ops/rowwise.h"

namespace mea::cpu {

// Row `row` of an op's result; the back end spreads the rows over threads.
template <typename Args>
using RowKernel = void (*)(const Args& args, int64_t row);

struct RowKernels {
  RowKernel<RmsNormArgs> rms_norm;
  RowKernel<AddRmsNormArgs> add_rms_norm;
  RowKernel<NormRowsArgs> norm_rows;
  RowKernel<GatedActivationArgs> gated_activation;
  RowKernel<SigmoidGateArgs> sigmoid_gate;
  RowKernel<MixHeadsArgs> mix_heads;
};

// The kernels of the target that Highway has chosen.
RowKernels GetRowKernels();

}  // namespace mea::cpu
