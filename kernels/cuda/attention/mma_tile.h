#pragma once

#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// One warp's products with a tile of the cache in shared memory, in SlabLayout's order: [tokens /
// 64][head_dim / 64][64 tokens][64 elements], granules swizzled. The warp has 16 query vectors
// (rows), of which a lane holds rows lane / 4 and lane / 4 + 8; scores are blocks of 8 tokens, of
// which it holds two neighbours of each row: s[b][0..1] and s[b][2..3].

inline constexpr int kChunkBytes = SlabLayout::kTileTokens * SlabLayout::kChunkElements * 2;

// Offset of token `token` (a multiple of 8) in a tile of vectors of head_dim elements.
template <int head_dim>
__device__ __forceinline__ constexpr int TokenBytes(int token) {
  constexpr int kTile = SlabLayout::kTileTokens;
  return token / kTile * (kTile * head_dim * 2) + token % kTile * 128;
}

// Where a lane points ldmatrix in a chunk, for its first two granules; those of granules 2 j and
// 2 j + 1 follow by At. Four matrices of eight tokens by one granule come in the order in which
// products take them, two neighbouring registers at a time: of keys, read as they lie, both
// granules of eight tokens and then of the next eight; of values, transposed, one granule of both
// eights and then the next granule.
struct LaneOffsets {
  int keys;
  int values;

  __device__ explicit LaneOffsets(int lane)
      : keys((lane / 16 * 8 + lane % 8) * 128 + ((lane / 8 % 2) ^ (lane % 8)) * 16),
        values(lane % 16 * 128 + ((lane / 16) ^ (lane % 8)) * 16) {}

  // The swizzle is an exclusive or, and slabs are aligned to a kilobyte.
  __device__ __forceinline__ static const std::byte* At(const std::byte* slab, int offset, int j) {
    return slab + (offset ^ (j * 32));
  }
};

// A quantity of each of a lane's two rows.
struct PerRow {
  float low;   // lane / 4
  float high;  // lane / 4 + 8
};

// dot[b] += q . k of kBlocks * 8 tokens.
template <int head_dim, int kBlocks>
__device__ __forceinline__ void DotKeys(const uint32_t (&q)[head_dim / 16][4],
                                        const std::byte* keys, const LaneOffsets& offsets,
                                        float (&dot)[kBlocks][4]) {
#pragma unroll
  for (int k = 0; k < head_dim / 16; ++k) {
#pragma unroll
    for (int b = 0; b < kBlocks; b += 2) {
      uint32_t fragment[4];
      LdMatrix4(fragment, LaneOffsets::At(keys, offsets.keys, k % 4) + TokenBytes<head_dim>(b * 8) +
                              k / 4 * kChunkBytes);
      MmaBf16(dot[b], q[k], fragment[0], fragment[1]);
      MmaBf16(dot[b + 1], q[k], fragment[2], fragment[3]);
    }
  }
}

// s += mix * (q . k) of one component.
template <int head_dim, int kBlocks>
__device__ __forceinline__ void AddScores(const uint32_t (&q)[head_dim / 16][4],
                                          const std::byte* keys, const LaneOffsets& offsets,
                                          PerRow mix, float (&s)[kBlocks][4]) {
  constexpr int kAtOnce = kBlocks < 4 ? 2 : 4;  // products in flight, traded against registers
#pragma unroll
  for (int first = 0; first < kBlocks; first += kAtOnce) {
    float dot[kAtOnce][4] = {};
    DotKeys<head_dim, kAtOnce>(q, keys + TokenBytes<head_dim>(first * 8), offsets, dot);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      s[first + i][0] += mix.low * dot[i][0];
      s[first + i][1] += mix.low * dot[i][1];
      s[first + i][2] += mix.high * dot[i][2];
      s[first + i][3] += mix.high * dot[i][3];
    }
  }
}

// o += (mix * p) V of one component.
template <int head_dim, int kBlocks, WeightRounding rounding>
__device__ __forceinline__ void AddValues(const float (&p)[kBlocks][4], const std::byte* values,
                                          const LaneOffsets& offsets, PerRow mix,
                                          float (&o)[head_dim / 8][4]) {
#pragma unroll
  for (int b = 0; b < kBlocks; b += 2) {
    uint32_t weights[4];
    uint32_t residual[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&block)[4] = p[b + i / 2];
      const float m = i % 2 == 0 ? mix.low : mix.high;
      const float first = block[i % 2 * 2] * m;
      const float second = block[i % 2 * 2 + 1] * m;
      weights[i] = PackBf16(first, second);
      if constexpr (rounding == WeightRounding::kTwoBf16) {
        const float2 rounded = UnpackBf16(weights[i]);
        residual[i] = PackBf16(first - rounded.x, second - rounded.y);
      }
    }
#pragma unroll
    for (int j = 0; j < head_dim / 16; ++j) {
      uint32_t fragment[4];
      LdMatrix4Trans(fragment, LaneOffsets::At(values, offsets.values, j % 4) +
                                   TokenBytes<head_dim>(b * 8) + j / 4 * kChunkBytes);
      MmaBf16(o[2 * j], weights, fragment[0], fragment[1]);
      MmaBf16(o[2 * j + 1], weights, fragment[2], fragment[3]);
      if constexpr (rounding == WeightRounding::kTwoBf16) {
        MmaBf16(o[2 * j], residual, fragment[0], fragment[1]);
        MmaBf16(o[2 * j + 1], residual, fragment[2], fragment[3]);
      }
    }
  }
}

// Over the four lanes that share a row.
__device__ __forceinline__ float QuadMax(float x) {
  x = fmaxf(x, ShflXor(x, 1));
  return fmaxf(x, ShflXor(x, 2));
}
__device__ __forceinline__ float QuadSum(float x) {
  x += ShflXor(x, 1);
  return x + ShflXor(x, 2);
}

// The running softmax of a warp's 16 rows: o = sum_t 2^(s_t - max) v_t.
template <int head_dim>
struct Accumulator {
  float o[head_dim / 8][4] = {};
  float max[2] = {kMaskedScore, kMaskedScore};
  float sum[2] = {0.0f, 0.0f};  // of this lane's tokens

  // Scores become weights relative to the new maximum; what is summed of the rows decays by the
  // result.
  template <int kBlocks>
  __device__ __forceinline__ PerRow Exponentiate(float (&s)[kBlocks][4]) {
    float decays[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float new_max = max[i];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        new_max = fmaxf(new_max, fmaxf(s[b][2 * i], s[b][2 * i + 1]));
      }
      new_max = QuadMax(new_max);
      const float decay = Exp2(max[i] - new_max);
      decays[i] = decay;
      max[i] = new_max;
      sum[i] *= decay;
#pragma unroll
      for (int b = 0; b < head_dim / 8; ++b) {
        o[b][2 * i] *= decay;
        o[b][2 * i + 1] *= decay;
      }
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int e = 2 * i; e < 2 * i + 2; ++e) {
          s[b][e] = Exp2(s[b][e] - new_max);
          sum[i] += s[b][e];
        }
      }
    }
    return {decays[0], decays[1]};
  }
};

// Copies a tile of 64 tokens by kThreads threads, 16 bytes at a time. Tokens outside `valid` arrive
// as zeros, and their slots are not read: zero times the contents of a free slot may be NaN.
// `hint`: a CacheHint, or none.
template <int head_dim, int kThreads, class... Hint>
__device__ __forceinline__ void CopyTile(std::byte* shared, const Bf16* tile, int first_token,
                                         TokenRange valid, Hint... hint) {
  constexpr int kTile = SlabLayout::kTileTokens;
  constexpr int kCopies = kTile * head_dim * 2 / (kThreads * 16);
  const int thread = static_cast<int>(threadIdx.x);
  const std::byte* source = reinterpret_cast<const std::byte*>(tile) + thread * 16;
  shared += thread * 16;
  if (first_token >= valid.begin && first_token + kTile <= valid.end) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      CopyAsync16(shared + i * kThreads * 16, source + i * kThreads * 16, hint...);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int token = first_token + (i * kThreads + thread) / 8 % kTile;
      CopyAsync16Zfill(shared + i * kThreads * 16, source + i * kThreads * 16,
                       token >= valid.begin && token < valid.end, hint...);
    }
  }
}

}  // namespace mea::cuda
