// Flash attention: a block has 128 rows, a row being one query position of one query head, and all
// heads of one virtual head share its keys and values. Tiles of 64 tokens pass through a ring of
// shared memory, keys and values in turn; every warp has 16 rows.
#include "kernels/cuda/attention/prefill_mma.h"

#include "kernels/cuda/attention/mma_tile.h"
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

// One of the lane's two rows.
struct Row {
  bool valid;  // rows behind the chunk repeat its last
  int query;   // row of q and out
  int head;    // query head
  TokenRange visible;
};

// Row `index` of the chunk: position * group + head of the group.
__device__ Row RowAt(const PrefillParams& params, int g, int index) {
  const AttentionParams& p = params.attention;
  const int group = p.group();
  const int last = params.q_len * group - 1;
  const int clamped = index < last ? index : last;
  const int position = clamped / group;
  return {.valid = index <= last,
          .query = params.q_begin + position,
          .head = g * group + clamped % group,
          .visible = VisibleTokens(params.kv_len, params.q_len, position, p.window)};
}

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
      const SlabLayout layout = {source.page_size, head_dim};
      const Bf16* tile =
          source.slabs +
          layout.SlabBegin(is_key_ ? page_.keys : page_.values, params_.attention.kv_heads, g_) +
          token_ % source.page_size * head_dim;
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
    pages = {PageOf(params_.keys, token), PageOf(params_.values, token)};
  }
  __device__ static int PageOf(const HeadSlabs& source, int token) {
    const int index = token / source.page_size;
    return source.pages == nullptr ? index : source.pages[index];
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
__device__ void WriteRows(const AttentionParams& p, const Row (&rows)[2], int lane,
                          Accumulator<head_dim>& acc) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float scale = Rcp(QuadSum(acc.sum[i]));
    if (p.head_norm_gain != nullptr) {
      float squares = 0.0f;
#pragma unroll
      for (int b = 0; b < head_dim / 8; ++b) {
        squares += acc.o[b][2 * i] * acc.o[b][2 * i] + acc.o[b][2 * i + 1] * acc.o[b][2 * i + 1];
      }
      const float mean = QuadSum(squares) * scale * scale / head_dim;
      scale *= Rsqrt(mean + p.head_norm_eps);
    }
    if (!rows[i].valid) continue;
    uint32_t* out = reinterpret_cast<uint32_t*>(p.Out(rows[i].query, rows[i].head)) + lane % 4;
    const float* gain = p.head_norm_gain + int64_t{rows[i].head} * head_dim + lane % 4 * 2;
#pragma unroll
    for (int b = 0; b < head_dim / 8; ++b) {
      float2 x = {acc.o[b][2 * i] * scale, acc.o[b][2 * i + 1] * scale};
      if (p.head_norm_gain != nullptr) x = {x.x * gain[b * 8], x.y * gain[b * 8 + 1]};
      out[b * 4] = PackBf16(x.x, x.y);
    }
  }
}

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
  const TokenRange first_visible = RowAt(params, g, first_row).visible;
  const TokenRange last_visible = RowAt(params, g, first_row + kRows - 1).visible;
  const TokenRange tokens = {first_visible.begin, last_visible.end};

  Row rows[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) rows[i] = RowAt(params, g, first_row + warp * 16 + lane / 4 + 8 * i);

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
    const bool is_edge = token < last_visible.begin || token + kTile > first_visible.end;
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
  WaitCopies<0>();
  WriteRows<head_dim>(p, rows, lane, acc);
}

template <int head_dim>
cudaError_t LaunchHeadDim(const PrefillParams& params, cudaStream_t stream) {
  const AttentionParams& p = params.attention;
  const int num_blocks = (params.q_len * p.group() + kRows - 1) / kRows;
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
