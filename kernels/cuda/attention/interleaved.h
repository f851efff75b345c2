#pragma once

#include "kernels/cuda/attention/params.h"

namespace mea::cuda {

inline constexpr int kMaxPseudoHeads = 16;  // a block's rotated queries fit its shared memory

// The additional parameters of interleaved pseudo heads in AttentionParams, where q_heads and
// kv_heads are P * h: pseudo query p of head j is query head p * h + j, pseudo key r of head j is
// virtual head j * P + r, and keys of token t are rotated by t * P.
struct PseudoHeads {
  const float* rotations = nullptr;  // [P, head_dim]: cos and sin of r positions
  int pseudo_heads = 1;              // P
};

struct InterleavedParams {
  DecodeParams decode;
  PseudoHeads pseudo;
};

// Tokens of which a row sees some pseudo head, for a window of W tokens: pseudo keys after a pseudo
// query's place in the token are visible one token further back.
__host__ __device__ constexpr int WindowOfPseudoHeads(int window, int pseudo_heads) {
  return window > 0 && pseudo_heads > 1 ? window + 1 : window;
}

// Partial results of all items by plain float32 arithmetic: any even head_dim up to
// kMaxGeneralHeadDim, any page size. A record covers all pseudo keys of the item's tokens, so
// splits merge as elsewhere.
cudaError_t LaunchInterleaved(const InterleavedParams& params, cudaStream_t stream);

}  // namespace mea::cuda
