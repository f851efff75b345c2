// S[i,t] = scale * r[t,g] * sum_c A[c,g] (q_i . K_c(t)) and o_i = sum_c sum_t (B[c,g] p_i(t))
// V_c(t), one component slab after the other through a ring of shared memory. Heads are the rows of
// the products, so A and B are one scalar per row; the sum over c happens in float32 registers. A
// block is four warps: each has 16 heads and its own part of the tokens of a tile, with its own
// running softmax; they meet at the end of an item.
#include "kernels/cuda/attention/decode_mma.h"

#include "kernels/cuda/attention/decode_rows.h"
#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/key_norms.h"
#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/slab_stream.h"
#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kTile = SlabLayout::kTileTokens;
constexpr int kStages = 4;

// head_dim and tiles of 16 query heads.
template <int head_dim, int row_tiles>
struct Shape {
  static constexpr int kHeadDim = head_dim;
  static constexpr int kRowWarps = row_tiles;
  static constexpr int kTokenWarps = kWarps / row_tiles;
  // Of a slab: 16 KB, as far as the scores of a warp's share fit its registers.
  static constexpr int kTokens = head_dim == 64 && row_tiles < 4 ? 128 : 64;
  static constexpr int kStageBytes = kTokens * head_dim * 2;
  static constexpr int kSubTiles = kTokens / kTile;
  static constexpr int kSubTileBytes = kTile * head_dim * 2;
  static constexpr int kWarpTokens = kTokens / kTokenWarps;
  static constexpr int kScoreBlocks = kWarpTokens / 8;
  static constexpr int kDimBlocks = head_dim / 8;
  static constexpr int kDimSteps = head_dim / 16;

  // Shared memory: the ring, the statistics of the warps, the sums that they exchange.
  static constexpr int kStatsBegin = kStages * kStageBytes;
  static constexpr int kStatsBytes = kWarps * 16 * static_cast<int>(sizeof(SoftmaxStats));
  static constexpr int kSliceBlocks = kDimBlocks / kTokenWarps;
  static constexpr int kSumsBegin = kStatsBegin + kStatsBytes;
  static constexpr int kSumsBytes = kWarps * (kTokenWarps - 1) * kSliceBlocks * 16 * 8 * 4;
  static constexpr int kSharedBytes = kSumsBegin + kSumsBytes;

  // What a lane holds of block b of a result, in its row.
  __device__ __forceinline__ static void Store(float* row, int lane, int b, float2 x) {
    *reinterpret_cast<float2*>(row + lane % 4 * 2 + b * 8) = x;
  }
};

// ---- Reading the cache, kStages - 1 slabs ahead.

template <class S>
class SlabRing {
 public:
  __device__ SlabRing(const DecodeParams& params, const Units& units) : stream_(params, units) {
    for (int i = 0; i < kStages - 1; ++i) Copy(i);
  }

  // The next slab; it stays until the call after. Every thread of the block calls it.
  __device__ __forceinline__ const std::byte* Next() {
    WaitCopies<kStages - 2>();
    SyncThreads();  // everybody's copies of this slab are in, and the last slab has been read
    Copy((stage_ + kStages - 1) % kStages);
    const std::byte* slab = DynamicShared() + stage_ * S::kStageBytes;
    stage_ = (stage_ + 1) % kStages;
    return slab;
  }

 private:
  // Starts the copy of the stream's next slab, if there is one, and commits.
  __device__ __forceinline__ void Copy(int stage) {
    if (!stream_.AtEnd()) {
#pragma unroll
      for (int i = 0; i < S::kSubTiles; ++i) {
        CopyTile<S::kHeadDim, kThreads>(
            DynamicShared() + stage * S::kStageBytes + i * S::kSubTileBytes, stream_.tile(i),
            stream_.token(i), stream_.valid(), EvictFirst());
      }
      stream_.Next();
    }
    CommitCopies();
  }

  SlabStream<S::kHeadDim, S::kTokens> stream_;
  int stage_ = 0;
};

// ---- The 16 query heads of a warp.

template <class S>
struct Rows : HeadRows {
  uint32_t q[S::kDimSteps][4];

  __device__ Rows(const AttentionParams& p, const HeadBlock& block, int row, int row_tile, int lane)
      : HeadRows(p, block, row_tile, lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t* source =
          reinterpret_cast<const uint32_t*>(p.Query(row, head[i]) + lane % 4 * 2);
#pragma unroll
      for (int k = 0; k < S::kDimSteps; ++k) {
        q[k][i] = valid[i] ? source[k * 8] : 0;
        q[k][i + 2] = valid[i] ? source[k * 8 + 4] : 0;
      }
    }
  }
};

// ---- The kernel.

template <class S, WeightRounding rounding>
__global__ void __launch_bounds__(kThreads, 2)
    DecodeMma(const __grid_constant__ DecodeParams params) {
  WaitForPrevious();
  LetNextStart();
  const AttentionParams& p = params.attention;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int first_token = warp / S::kRowWarps * S::kWarpTokens;  // of the warp, in a tile
  const int warp_bytes = TokenBytes<S::kHeadDim>(first_token);
  const LaneOffsets offsets(lane);
  const Units units(params.list, HeadBlock::Count(p));
  SlabRing<S> ring(params, units);
  for (int unit = units.begin; unit < units.end; ++unit) {
    const WorkItem item = params.list.items[unit];
    const HeadBlock block = HeadBlock::At(p, units.part);
    const Rows<S> rows(p, block, item.row, warp % S::kRowWarps, lane);
    Accumulator<S::kHeadDim> acc;
    for (int tile = item.begin / kTile * kTile; tile < item.end; tile += S::kTokens) {
      float s[S::kScoreBlocks][4] = {};
      KeyNorms(p, item, tile + first_token, rows.g).Prefetch(lane);
#pragma unroll 1
      for (int c = 0; c < block.num_keys; ++c) {
        const PerRow mix = rows.Mix(p.key_mix, p.kv_heads, block.key_begin + c);
        AddScores<S::kHeadDim>(rows.q, ring.Next() + warp_bytes, offsets, mix, s);
      }
      FinishScores<S>(p, item, tile + first_token, lane, rows.g, s);
      acc.Exponentiate(s);
#pragma unroll 1
      for (int c = 0; c < block.num_values; ++c) {
        const PerRow mix = rows.Mix(p.value_mix, p.kv_heads, block.value_begin + c);
        AddValues<S::kHeadDim, S::kScoreBlocks, rounding>(s, ring.Next() + warp_bytes, offsets, mix,
                                                          acc.o);
      }
    }
    WriteItem<S>(params, rows, unit, warp, lane, acc);
  }
}

template <int head_dim, int row_tiles, WeightRounding rounding>
cudaError_t LaunchShape(const DecodeParams& params, cudaStream_t stream) {
  using S = Shape<head_dim, row_tiles>;
  return Launch({.grid = dim3(static_cast<unsigned>(params.num_blocks)),
                 .block = dim3(kThreads),
                 .shared_bytes = S::kSharedBytes,
                 .stream = stream,
                 .overlaps_previous = true},
                DecodeMma<S, rounding>, params);
}

template <int head_dim, WeightRounding rounding>
cudaError_t LaunchRows(const DecodeParams& params, cudaStream_t stream) {
  const int num_heads = HeadBlock::SharingHeads(params.attention);
  if (num_heads <= 16) return LaunchShape<head_dim, 1, rounding>(params, stream);
  if (num_heads <= 32) return LaunchShape<head_dim, 2, rounding>(params, stream);
  return LaunchShape<head_dim, 4, rounding>(params, stream);
}

template <int head_dim>
cudaError_t LaunchRounding(const DecodeParams& params, WeightRounding rounding,
                           cudaStream_t stream) {
  if (rounding == WeightRounding::kBf16) {
    return LaunchRows<head_dim, WeightRounding::kBf16>(params, stream);
  }
  return LaunchRows<head_dim, WeightRounding::kTwoBf16>(params, stream);
}

}  // namespace

cudaError_t LaunchDecodeMma(const DecodeParams& params, WeightRounding rounding,
                            cudaStream_t stream) {
  if (params.attention.head_dim == 64) return LaunchRounding<64>(params, rounding, stream);
  return LaunchRounding<128>(params, rounding, stream);
}

}  // namespace mea::cuda
