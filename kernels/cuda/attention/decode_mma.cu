// S[i,t] = scale * r[t,g] * sum_c A[c,g] (q_i . K_c(t)) and o_i = sum_c sum_t (B[c,g] p_i(t))
// V_c(t), one component slab after the other through a ring of shared memory. Heads are the rows of
// the products, so A and B are one scalar per row; the sum over c happens in float32 registers. A
// block is four warps: each has 16 heads and its own part of the tokens of a tile, with its own
// running softmax; they meet at the end of an item.
#include "kernels/cuda/attention/decode_mma.h"

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
struct Rows {
  int head[2];  // query heads; a padded row repeats the last
  int g[2];     // their virtual heads
  bool valid[2];
  uint32_t q[S::kDimSteps][4];

  __device__ Rows(const AttentionParams& p, const HeadBlock& block, int row, int row_tile,
                  int lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int index = row_tile * 16 + lane / 4 + 8 * i;
      valid[i] = index < block.num_heads;
      head[i] = block.first_head + (valid[i] ? index : block.num_heads - 1);
      g[i] = head[i] / p.group();
      const uint32_t* source =
          reinterpret_cast<const uint32_t*>(p.Query(row, head[i]) + lane % 4 * 2);
#pragma unroll
      for (int k = 0; k < S::kDimSteps; ++k) {
        q[k][i] = valid[i] ? source[k * 8] : 0;
        q[k][i + 2] = valid[i] ? source[k * 8 + 4] : 0;
      }
    }
  }

  __device__ PerRow Mix(const float* mix, int kv_heads, int c) const {
    return {MixWeight(mix, kv_heads, c, g[0]), MixWeight(mix, kv_heads, c, g[1])};
  }
};

// Scores in powers of two: s <- s * scale * r[t, g], and kMaskedScore where t is not visible.
// `first_token` is the warp's.
template <class S>
__device__ __forceinline__ void FinishScores(const AttentionParams& p, const WorkItem& item,
                                             int first_token, int lane, const int (&g)[2],
                                             float (&s)[S::kScoreBlocks][4]) {
  const float scale = p.scale * kLog2E;
  const KeyNorms norms(p, item, first_token, g);
  const bool is_edge = first_token < item.begin || first_token + S::kWarpTokens > item.end;
#pragma unroll
  for (int b = 0; b < S::kScoreBlocks; ++b) {
    const int token = first_token + b * 8;
    float2 factors[2] = {{scale, scale}, {scale, scale}};
    if (norms.low != nullptr) {
      const float2 low = *reinterpret_cast<const float2*>(norms.low + b * 8 + lane % 4 * 2);
      const float2 high = *reinterpret_cast<const float2*>(norms.high + b * 8 + lane % 4 * 2);
      factors[0] = {scale * low.x, scale * low.y};
      factors[1] = {scale * high.x, scale * high.y};
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[b][e] *= e % 2 == 0 ? factors[e / 2].x : factors[e / 2].y;
      const int t = token + lane % 4 * 2 + e % 2;
      if (is_edge && (t < item.begin || t >= item.end)) s[b][e] = kMaskedScore;
    }
  }
}

// ---- The end of an item: the warps that share heads merge what they have and write it out.

template <class S>
__device__ __forceinline__ void WriteSlice(const DecodeParams& params, const Rows<S>& rows,
                                           int item, int lane, int first_block,
                                           const float (&o)[S::kDimBlocks][4]) {
  const AttentionParams& p = params.attention;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!rows.valid[i]) continue;
    float* out = params.partial_out + (int64_t{item} * p.q_heads + rows.head[i]) * S::kHeadDim +
                 lane % 4 * 2;
#pragma unroll
    for (int b = 0; b < S::kDimBlocks; ++b) {
      if (b < first_block || b >= first_block + S::kSliceBlocks) continue;
      *reinterpret_cast<float2*>(out + b * 8) = make_float2(o[b][2 * i], o[b][2 * i + 1]);
    }
  }
}

template <class S>
__device__ __forceinline__ void WriteStats(const DecodeParams& params, const Rows<S>& rows,
                                           int item, const SoftmaxStats (&stats)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!rows.valid[i]) continue;
    params.partial_stats[int64_t{item} * params.attention.q_heads + rows.head[i]] = stats[i];
  }
}

// Each token warp keeps one slice of head_dim and hands the others theirs; slices are summed in the
// order of the warps.
template <class S>
__device__ void WriteItem(const DecodeParams& params, const Rows<S>& rows, int item, int warp,
                          int lane, Accumulator<S::kHeadDim>& acc) {
  SoftmaxStats own[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) own[i] = {acc.max[i], QuadSum(acc.sum[i])};
  if constexpr (S::kTokenWarps == 1) {
    WriteSlice<S>(params, rows, item, lane, 0, acc.o);
    if (lane % 4 == 0) WriteStats<S>(params, rows, item, own);
    return;
  }
  const int row_warp = warp % S::kRowWarps;
  const int token_warp = warp / S::kRowWarps;
  auto* all_stats = reinterpret_cast<SoftmaxStats*>(DynamicShared() + S::kStatsBegin) +
                    row_warp * S::kTokenWarps * 16;  // [kTokenWarps, 16]
  if (lane % 4 == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) all_stats[token_warp * 16 + lane / 4 + 8 * i] = own[i];
  }
  SyncThreads();
  SoftmaxStats merged[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    merged[i] = {kMaskedScore, 0.0f};
#pragma unroll
    for (int w = 0; w < S::kTokenWarps; ++w) {
      merged[i].max = fmaxf(merged[i].max, all_stats[w * 16 + lane / 4 + 8 * i].max);
    }
#pragma unroll
    for (int w = 0; w < S::kTokenWarps; ++w) {
      const SoftmaxStats stats = all_stats[w * 16 + lane / 4 + 8 * i];
      merged[i].sum += stats.sum * Exp2(stats.max - merged[i].max);
    }
    const float decay = Exp2(own[i].max - merged[i].max);
#pragma unroll
    for (int b = 0; b < S::kDimBlocks; ++b) {
      acc.o[b][2 * i] *= decay;
      acc.o[b][2 * i + 1] *= decay;
    }
  }

  // [kTokenWarps from, kTokenWarps - 1 to, kSliceBlocks, 2 rows, 32 lanes]
  float2* sums = reinterpret_cast<float2*>(DynamicShared() + S::kSumsBegin) +
                 row_warp * S::kTokenWarps * (S::kTokenWarps - 1) * S::kSliceBlocks * 64 + lane;
  const auto place = [&](int from, int to, int b, int i) -> float2& {
    const int to_index = to < from ? to : to - 1;
    return sums[((from * (S::kTokenWarps - 1) + to_index) * S::kSliceBlocks + b) * 64 + i * 32];
  };
#pragma unroll
  for (int b = 0; b < S::kDimBlocks; ++b) {
    const int to = b / S::kSliceBlocks;
    if (to == token_warp) continue;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      place(token_warp, to, b % S::kSliceBlocks, i) =
          make_float2(acc.o[b][2 * i], acc.o[b][2 * i + 1]);
    }
  }
  SyncThreads();
#pragma unroll
  for (int b = 0; b < S::kDimBlocks; ++b) {
    if (b / S::kSliceBlocks != token_warp) continue;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float2 total = {0.0f, 0.0f};
#pragma unroll
      for (int from = 0; from < S::kTokenWarps; ++from) {
        const float2 part = from == token_warp ? make_float2(acc.o[b][2 * i], acc.o[b][2 * i + 1])
                                               : place(from, token_warp, b % S::kSliceBlocks, i);
        total.x += part.x;
        total.y += part.y;
      }
      acc.o[b][2 * i] = total.x;
      acc.o[b][2 * i + 1] = total.y;
    }
  }
  WriteSlice<S>(params, rows, item, lane, token_warp * S::kSliceBlocks, acc.o);
  if (token_warp == 0 && lane % 4 == 0) WriteStats<S>(params, rows, item, merged);
}

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
