// What a bias that the cached keys leave out adds to the scores of a block (KeyBias,
// ops/attention.h).
#if defined(MEA_KERNELS_CPU_KEY_BIAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEA_KERNELS_CPU_KEY_BIAS_INL_H_
#undef MEA_KERNELS_CPU_KEY_BIAS_INL_H_
#else
#define MEA_KERNELS_CPU_KEY_BIAS_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/int4_heads.h"

HWY_BEFORE_NAMESPACE();
namespace mea {
namespace HWY_NAMESPACE {

using cpu::AttentionWork;
using cpu::kBlockTokens;
using cpu::kTileTokens;

static_assert(kBlockTokens == KeyBias::kStride);

// With elements i and i + d / 2 as one complex number, q . RoPE_t(b) is the real part of
// conj(q) b e^(it): one product for each row of a block, rotated to where the block begins, and
// then a score like any other, against the angles of 64 positions that all blocks, heads and layers
// share.
class BiasScores {
 public:
  explicit BiasScores(const AttentionWork& work) : work_(work), head_dim_(work.head_dim) {}

  // scores[row][token] += q . RoPE(b) for rows [first_row, first_row + num_rows) of a head of the
  // item and num_tiles tiles of the block from first_tile on; `scores` is where the rows begin.
  void Add(int64_t block_begin, int head, int first_row, int num_rows, int first_tile,
           int num_tiles, float* scores) const {
    const KeyBias& bias = work_.args.key_bias;
    const float* b = bias.heads.row<float>(work_.item.head_begin + head);
    const float* begin = bias.strides.row<float>(block_begin / kBlockTokens);
    const int64_t first = int64_t{head} * work_.group_rows + first_row;
    for (int r = 0; r < num_rows; ++r) {
      float* const z = work_.rotated + r * head_dim_;
      std::copy_n(work_.queries + (first + r) * head_dim_, head_dim_, z);
      // Back from what keys in 4 bits need.
      if (work_.args.kv.spec.dtype.keys == DType::kI4) RotateHadamard(z, head_dim_);
      Rotate(z, b, begin, z);
    }
    const float* offsets = bias.offsets.as<float>() + first_tile;
    const auto tile = [=](int i) HWY_ATTR { return offsets + i * kTileTokens; };
    Multiply<true>(work_.rotated, head_dim_, num_rows, head_dim_,
                   InScratch(tile, num_tiles, bias.offsets.stride[0]), scores + first_tile,
                   kBlockTokens);
  }

 private:
  // z = conj(q) b e^(is), its imaginary part negated.
  HWY_INLINE void Rotate(const float* q, const float* b, const float* cos_sin, float* z) const {
    const int half = head_dim_ / 2;
    for (int i = 0; i < half; ++i) {
      const float real = q[i] * b[i] + q[i + half] * b[i + half];
      const float minus = q[i + half] * b[i] - q[i] * b[i + half];
      z[i] = cos_sin[i] * real + cos_sin[i + half] * minus;
      z[i + half] = cos_sin[i] * minus - cos_sin[i + half] * real;
    }
  }

  const AttentionWork& work_;
  const int head_dim_;
};

}  // namespace HWY_NAMESPACE
}  // namespace mea
HWY_AFTER_NAMESPACE();

#endif
