#pragma once

#include "kernels/cuda/attention/decode_rows.h"
#include "kernels/cuda/attention/integer_slab.h"
#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// One warp's products with tiles of integers in shared memory (IntegerSlab), as mma_tile.h has them
// for BF16. Integers are widened in registers, which is exact, and multiplied as they are: a
// token's scale multiplies its score, or its weight. Products sum over elements, or over tokens, in
// any order, so lanes take them as they lie.

// Two integers of a word in 8 bits; a nibble of `selector` names the byte of each, 4 the sign of
// 128.
__device__ __forceinline__ uint32_t WidenInt8(uint32_t word, uint32_t selector) {
  // As mantissas of numbers of [128, 256): the low seven bits are right, the eighth counts -128.
  const uint32_t bytes = BytePermute(word, 0x43434343u, selector);
  return SubtractBf16(bytes & 0xff7fff7fu, bytes & 0xff80ff80u);
}
// Integers i and i + 4 of a word of eight, as 1 + n / 16.
__device__ __forceinline__ uint32_t WidenInt4(uint32_t word, int i) {
  const uint32_t bits = i == 0 ? word << 3 : word >> (4 * i - 3);
  return (bits & 0x00780078u) | 0x3f803f80u;
}
// Values of integers in 4 bits are multiplied as (n - 8) / 16: what WidenInt4 gives, less this.
inline constexpr float kInt4Middle = 1.5f;

template <DType dtype, int head_dim>
struct IntegerTile {
  static constexpr int kChunks = head_dim / IntegerSlab::kChunkElements;
  static constexpr int kTileBytes = kChunks * IntegerSlab::ChunkBytes(dtype);

  // Offset of token `token`, a multiple of 8, in a stage of whole tiles.
  __device__ __forceinline__ static constexpr int TokenBytes(int token) {
    constexpr int kTile = IntegerSlab::kTileTokens;
    return token / kTile * kTileBytes + token % kTile * IntegerSlab::RowBytes(dtype);
  }
};

// A lane's places in the first chunk of 16 tokens: of keys, 16 integers of token lane / 4; of
// values, where it points ldmatrix, whose units of 16 bits are two integers or four.
template <DType dtype>
struct IntegerOffsets {
  int keys;
  int values;

  __device__ explicit IntegerOffsets(int lane)
      : keys(IntegerSlab::TileOffset(dtype, lane / 4, lane % 4 * 16)),
        values(IntegerSlab::TileOffset(dtype, lane % 16,
                                       lane / 16 * (dtype == DType::kI8 ? 16 : 32))) {}
};

// Scales of a warp's tokens in a stage, and behind those of all its tokens their zeros.
struct StageScales {
  const std::byte* scales;
  int zeros;  // bytes from a scale to its zero

  // Of a lane's two tokens in block b.
  __device__ __forceinline__ float2 Scale(int b, int lane) const {
    return At(b * 16 + lane % 4 * 4);
  }
  __device__ __forceinline__ float2 Zero(int b, int lane) const {
    return At(zeros + b * 16 + lane % 4 * 4);
  }

 private:
  __device__ __forceinline__ float2 At(int offset) const {
    return UnpackBf16(*reinterpret_cast<const uint32_t*>(scales + offset));
  }
};

// Rotates a head as RotateHadamard does, of which four lanes hold 16 neighbours in each chunk.
template <int kChunks>
__device__ __forceinline__ void RotateQuery(float (&x)[kChunks * 16], int lane) {
  const auto butterfly = [&x](int i, int half) {
    const float first = x[i];
    x[i] = first + x[i + half];
    x[i + half] = first - x[i + half];
  };
#pragma unroll
  for (int half = 1; half < 16; half *= 2) {
#pragma unroll
    for (int i = 0; i < kChunks * 16; ++i) {
      if ((i & half) == 0) butterfly(i, half);
    }
  }
#pragma unroll
  for (int mask = 1; mask < 4; mask *= 2) {
#pragma unroll
    for (int i = 0; i < kChunks * 16; ++i) {
      const float other = ShflXor(x[i], mask);
      x[i] = (lane & mask) == 0 ? x[i] + other : other - x[i];
    }
  }
  constexpr float kScale = kChunks == 1 ? 0.125f : 0.08838834764831845f;  // 1 / sqrt(head_dim)
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    if constexpr (kChunks == 2) butterfly(i, 16);
  }
#pragma unroll
  for (int i = 0; i < kChunks * 16; ++i) x[i] *= kScale;
}

// A lane's two queries in the order in which AddScores meets the integers of a key.
template <DType dtype, int head_dim>
struct IntegerQueries {
  static constexpr int kChunks = head_dim / IntegerSlab::kChunkElements;

  uint32_t q[head_dim / 16][4];
  float sum[2];  // of a query's elements; only for 4 bits

  __device__ IntegerQueries(const AttentionParams& p, const HeadRows& rows, int row, int lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float x[kChunks * 16];
      const Bf16* query = p.Query(row, rows.head[i]) + lane % 4 * 16;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const float2 pair = UnpackBf16(
              *reinterpret_cast<const uint32_t*>(query + c * IntegerSlab::kChunkElements + 2 * k));
          x[c * 16 + 2 * k] = rows.valid[i] ? pair.x : 0.0f;
          x[c * 16 + 2 * k + 1] = rows.valid[i] ? pair.y : 0.0f;
        }
      }
      if constexpr (dtype == DType::kI4) RotateQuery<kChunks>(x, lane);
      sum[i] = 0.0f;
#pragma unroll
      for (int k = 0; k < head_dim / 16; ++k) {
        const float* at = x + (dtype == DType::kI4 ? k / 2 * 8 + k % 2 * 2 : k * 4);
        q[k][i] = dtype == DType::kI4 ? PackBf16(at[0], at[4]) : PackBf16(at[0], at[1]);
        q[k][i + 2] = dtype == DType::kI4 ? PackBf16(at[1], at[5]) : PackBf16(at[2], at[3]);
        if constexpr (dtype == DType::kI4) {
          const float2 a = UnpackBf16(q[k][i]);
          const float2 b = UnpackBf16(q[k][i + 2]);
          sum[i] += (a.x + a.y) + (b.x + b.y);
        }
      }
      if constexpr (dtype == DType::kI4) sum[i] = QuadSum(sum[i]);
    }
  }
};

// s += mix * (q . k) of one component; `keys` and `scales` are the warp's.
template <DType dtype, int head_dim, int kBlocks>
__device__ __forceinline__ void AddIntegerScores(const IntegerQueries<dtype, head_dim>& q,
                                                 const std::byte* keys, const StageScales& scales,
                                                 const IntegerOffsets<dtype>& offsets, int lane,
                                                 PerRow mix, float (&s)[kBlocks][4]) {
  using Tile = IntegerTile<dtype, head_dim>;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    float dot[4] = {};
    if constexpr (dtype == DType::kI4) {
      dot[0] = dot[1] = -kInt4Middle * q.sum[0];
      dot[2] = dot[3] = -kInt4Middle * q.sum[1];
    }
#pragma unroll
    for (int c = 0; c < Tile::kChunks; ++c) {
      const std::byte* at =
          keys + offsets.keys + Tile::TokenBytes(b * 8) + c * IntegerSlab::ChunkBytes(dtype);
      if constexpr (dtype == DType::kI8) {
        const uint4 words = *reinterpret_cast<const uint4*>(at);
        const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          MmaBf16(dot, q.q[c * 4 + k], WidenInt8(word[k], 0x4140), WidenInt8(word[k], 0x4342));
        }
      } else {
        const uint2 words = *reinterpret_cast<const uint2*>(at);
        const uint32_t word[2] = {words.x, words.y};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          MmaBf16(dot, q.q[c * 4 + k], WidenInt4(word[k / 2], k % 2 * 2),
                  WidenInt4(word[k / 2], k % 2 * 2 + 1));
        }
      }
    }
    const float2 scale = scales.Scale(b, lane);
    if constexpr (dtype == DType::kI8) {
      s[b][0] += mix.low * (scale.x * dot[0]);
      s[b][1] += mix.low * (scale.y * dot[1]);
      s[b][2] += mix.high * (scale.x * dot[2]);
      s[b][3] += mix.high * (scale.y * dot[3]);
    } else {
      const float2 zero = scales.Zero(b, lane);
      const float2 middle = {zero.x + 8.0f * scale.x, zero.y + 8.0f * scale.y};
      s[b][0] += mix.low * (16.0f * scale.x * dot[0] + middle.x * q.sum[0]);
      s[b][1] += mix.low * (16.0f * scale.y * dot[1] + middle.y * q.sum[0]);
      s[b][2] += mix.high * (16.0f * scale.x * dot[2] + middle.x * q.sum[1]);
      s[b][3] += mix.high * (16.0f * scale.y * dot[3] + middle.y * q.sum[1]);
    }
  }
}

// o += (mix * p) V of one component, and `common` what all elements of a row are to have more: in 4
// bits the tokens' middles. Of the warp's tokens those in `visible` count: the scale of another may
// be NaN. Block b of o holds the elements that IntegerPlace says.
template <DType dtype, int head_dim, int kBlocks>
__device__ __forceinline__ void AddIntegerValues(const float (&p)[kBlocks][4],
                                                 const std::byte* values, const StageScales& scales,
                                                 const IntegerOffsets<dtype>& offsets, int lane,
                                                 TokenRange visible, PerRow mix,
                                                 float (&o)[head_dim / 8][4], float (&common)[2]) {
  using Tile = IntegerTile<dtype, head_dim>;
  constexpr int kPerUnit = dtype == DType::kI8 ? 2 : 4;  // integers that ldmatrix moves as one
#pragma unroll
  for (int b = 0; b < kBlocks; b += 2) {
    uint32_t weights[4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = (b + half) * 8 + lane % 4 * 2;
      float2 scale = scales.Scale(b + half, lane);
      float2 middle = {0.0f, 0.0f};
      if constexpr (dtype == DType::kI4) {
        const float2 zero = scales.Zero(b + half, lane);
        middle = {zero.x + 8.0f * scale.x, zero.y + 8.0f * scale.y};
        scale = {16.0f * scale.x, 16.0f * scale.y};
      }
      if (token < visible.begin || token >= visible.end) scale.x = middle.x = 0.0f;
      if (token + 1 < visible.begin || token + 1 >= visible.end) scale.y = middle.y = 0.0f;
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float m = row == 0 ? mix.low : mix.high;
        const float first = p[b + half][2 * row] * m;
        const float second = p[b + half][2 * row + 1] * m;
        weights[2 * half + row] = PackBf16(first * scale.x, second * scale.y);
        if constexpr (dtype == DType::kI4) {
          const float2 rounded = UnpackBf16(weights[2 * half + row]);
          common[row] +=
              first * middle.x + second * middle.y - kInt4Middle * (rounded.x + rounded.y);
        }
      }
    }
#pragma unroll
    for (int c = 0; c < Tile::kChunks; ++c) {
#pragma unroll
      for (int first = 0; first < 8; first += 2 * kPerUnit) {
        uint32_t units[4];
        LdMatrix4Trans(units, values + (offsets.values ^ first / 4 * 32) + Tile::TokenBytes(b * 8) +
                                  c * IntegerSlab::ChunkBytes(dtype));
#pragma unroll
        for (int k = 0; k < 2 * kPerUnit; ++k) {
          const uint32_t* unit = units + k / kPerUnit * 2;
          const int i = k % kPerUnit;
          if constexpr (dtype == DType::kI8) {
            const uint32_t selector = i == 0 ? 0x4240 : 0x4341;
            MmaBf16(o[c * 8 + first + k], weights, WidenInt8(unit[0], selector),
                    WidenInt8(unit[1], selector));
          } else {
            MmaBf16(o[c * 8 + first + k], weights, WidenInt4(unit[0], i), WidenInt4(unit[1], i));
          }
        }
      }
    }
  }
}

// Where in a row the two numbers of block b are that a lane holds, and how far apart.
template <DType dtype>
struct IntegerPlace {
  static constexpr int kDistance = dtype == DType::kI8 ? 2 : 4;
  __device__ __forceinline__ static int First(int lane, int b) {
    return b / kDistance * (8 * kDistance) + lane % 4 * (2 * kDistance) + b % kDistance;
  }
};

}  // namespace mea::cuda
