#pragma once

#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/key_norms.h"
#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// What the decode kernels by mma.sync share, whatever the format of the cache: the 16 query heads
// of a warp, their scores, and the end of an item. S is the shape of such a kernel.

// The query heads of a lane's two rows.
struct HeadRows {
  int head[2];  // query heads; a padded row repeats the last
  int g[2];     // their virtual heads
  bool valid[2];

  __device__ HeadRows(const AttentionParams& p, const HeadBlock& block, int row_tile, int lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int index = row_tile * 16 + lane / 4 + 8 * i;
      valid[i] = index < block.num_heads;
      head[i] = block.first_head + (valid[i] ? index : block.num_heads - 1);
      g[i] = head[i] / p.group();
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
__device__ __forceinline__ void WriteSlice(const DecodeParams& params, const HeadRows& rows,
                                           int item, int lane, int first_block,
                                           const float (&o)[S::kDimBlocks][4]) {
  const AttentionParams& p = params.attention;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (!rows.valid[i]) continue;
    float* out = params.partial_out + (int64_t{item} * p.q_heads + rows.head[i]) * S::kHeadDim;
#pragma unroll
    for (int b = 0; b < S::kDimBlocks; ++b) {
      if (b < first_block || b >= first_block + S::kSliceBlocks) continue;
      S::Store(out, lane, b, make_float2(o[b][2 * i], o[b][2 * i + 1]));
    }
  }
}

template <class S>
__device__ __forceinline__ void WriteStats(const DecodeParams& params, const HeadRows& rows,
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
__device__ void WriteItem(const DecodeParams& params, const HeadRows& rows, int item, int warp,
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

}  // namespace mea::cuda
