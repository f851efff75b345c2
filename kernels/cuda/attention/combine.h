#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Merges the partial results of the splits of rows [row_begin, row_end), in order, then o <-
// head_norm_gain * o / rms(o) where there is a gain. A row without tokens becomes zeros; rows of
// long chunks are not touched.
cudaError_t LaunchCombine(const DecodeParams& params, int row_begin, int row_end,
                          cudaStream_t stream);

}  // namespace mea::cuda
