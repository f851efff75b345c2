#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

// Partial results of all items from a cache of integers, by mma.sync as LaunchDecodeMma: keys and
// values in 8 or 4 bits, but not keys in fewer than values. Weights are rounded to BF16.
constexpr bool HasDecodeIntegers(int head_dim, int page_size, KvDTypes dtype) {
  return (head_dim == 64 || head_dim == 128) && page_size % SlabLayout::kTileTokens == 0 &&
         IsIntegerCache(dtype.keys) && IsIntegerCache(dtype.values) &&
         (dtype.keys == DType::kI8 || dtype.values == DType::kI4);
}
cudaError_t LaunchDecodeIntegers(const DecodeParams& params, cudaStream_t stream);

}  // namespace mea::cuda
