// Flash attention: a block has 128 rows, a row being one query position of one query head, and all
// heads of one virtual head share its keys and values. Tiles of 64 tokens pass through a ring of
// shared memory, keys and values alternately; every warp has 16 rows.
#include "kernels/cuda/attention/prefill_mma.h"

#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/prefill_row.h"
#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kRows = kWarps * 16;
constexpr int kTile = SlabLayout::kTileTokens;
constexpr int kStages = 4;

// Keys and values of one virtual head, tile after tile.
template <int head_dim>
class TileStream {
 public:
  // `tokens`: those of any row of the block.
  __device__ TileStream(const PrefillParams& params, int g, TokenRange tokens)
      : params_(params), g_(g), tokens_(tokens), token_(tokens.begin / kTile * kTile) {
    LookUp(token_, page_);
    LookUp(token_ + kTile, next_page_);
  }

  // Starts the copy of the next keys or values into `stage`, if there are any, and commits.
  __device__ __forceinline__ void Copy(std::byte* stage) {
    if (token_ < tokens_.end) {
      const HeadSlabs& source = is_key_ ? params_.keys : params_.values;
      const Bf16* tile = source.Tile(is_key_ ? page_.keys : page_.values, token_,
                                     params_.attention.kv_heads, g_, head_dim);
      CopyTile<head_dim, kThreads>(stage, tile, token_, tokens_);
      if (!is_key_) {
        token_ += kTile;
        page_ = next_page_;
        LookUp(token_ + kTile, next_page_);
      }
      is_key_ = !is_key_;
    }
    CommitCopies();
  }

 private:
  struct Pages {
    int keys = 0;
    int values = 0;
  };

  __device__ void LookUp(int token, Pages& pages) const {
    if (token >= tokens_.end) return;
    pages = {params_.keys.PageOf(token), params_.values.PageOf(token)};
  }

  const PrefillParams& params_;
  int g_;
  TokenRange tokens_;
  int token_;  // of the tile to copy next
  bool is_key_ = true;
  Pages page_;
  Pages next_page_;  // looked up a tile ahead
};

template <int head_dim>
__global__ void __launch_bounds__(kThreads)
    PrefillMma(const __grid_constant__ PrefillParams params) {
  WaitForPrevious();
  LetNextStart();
  constexpr int kStageBytes = kTile * head_dim * 2;
  constexpr int kBlocks = kTile / 8;
  const AttentionParams& p = params.attention;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int g = static_cast<int>(blockIdx.y);
  // The last rows see most tokens: the longest work starts first.
  const int first_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const TokenRange tokens = PrefillRow::AnySees(params, g, first_row, kRows);
  const TokenRange seen_by_all = PrefillRow::AllSee(params, g, first_row, kRows);

  PrefillRow rows[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    rows[i] = PrefillRow::At(params, g, first_row + warp * 16 + lane / 4 + 8 * i);
  }

  TileStream<head_dim> stream(params, g, tokens);
  for (int i = 0; i < kStages - 1; ++i) stream.Copy(DynamicShared() + i * kStageBytes);
  int stage = 0;
  const auto next_tile = [&]() -> const std::byte* {
    WaitCopies<kStages - 2>();
    SyncThreads();
    stream.Copy(DynamicShared() + (stage + kStages - 1) % kStages * kStageBytes);
    const std::byte* tile = DynamicShared() + stage * kStageBytes;
    stage = (stage + 1) % kStages;
    return tile;
  };

  uint32_t q[head_dim / 16][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t* source =
        reinterpret_cast<const uint32_t*>(p.Query(rows[i].query, rows[i].head)) + lane % 4;
#pragma unroll
    for (int k = 0; k < head_dim / 16; ++k) {
      q[k][i] = source[k * 8];
      q[k][i + 2] = source[k * 8 + 4];
    }
  }
  const LaneOffsets offsets(lane);
  const float scale = p.scale * kLog2E;
  Accumulator<head_dim> acc;
  for (int token = tokens.begin / kTile * kTile; token < tokens.end; token += kTile) {
    float s[kBlocks][4] = {};
    DotKeys<head_dim, kBlocks>(q, next_tile(), offsets, s);
    // Tokens that every row of the block sees need no mask.
    const bool is_edge = token < seen_by_all.begin || token + kTile > seen_by_all.end;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[b][e] *= scale;
        if (is_edge) {
          const int t = token + b * 8 + lane % 4 * 2 + e % 2;
          const TokenRange visible = rows[e / 2].visible;
          if (t < visible.begin || t >= visible.end) s[b][e] = kMaskedScore;
        }
      }
    }
    acc.Exponentiate(s);
    AddValues<head_dim, kBlocks, WeightRounding::kBf16>(s, next_tile(), offsets, {1.0f, 1.0f},
                                                        acc.o);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    WriteRow<head_dim>(p, rows[i], lane, acc.sum[i],
                       [&](int b, int e) { return acc.o[b][2 * i + e]; });
  }
}

template <int head_dim>
cudaError_t LaunchHeadDim(const PrefillParams& params, cudaStream_t stream) {
  const AttentionParams& p = params.attention;
  const int num_blocks = (params.num_rows() + kRows - 1) / kRows;
  return Launch({.grid = dim3(static_cast<unsigned>(num_blocks), static_cast<unsigned>(p.kv_heads)),
                 .block = dim3(kThreads),
                 .shared_bytes = kStages * kTile * head_dim * 2,
                 .stream = stream,
                 .overlaps_previous = true},
                PrefillMma<head_dim>, params);
}

}  // namespace

cudaError_t LaunchPrefillMma(const PrefillParams& params, cudaStream_t stream) {
  if (params.attention.head_dim == 64) return LaunchHeadDim<64>(params, stream);
  return LaunchHeadDim<128>(params, stream);
}

}  // namespace mea::cuda
