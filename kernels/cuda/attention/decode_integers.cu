// DecodeMma for keys and values of 8 or 4 bits. Slabs come through the ring as they lie in the
// cache, their tokens' scales behind them, and are widened on the way to the products.
#include "kernels/cuda/attention/decode_integers.h"

#include "kernels/cuda/attention/decode_rows.h"
#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/integer_tile.h"
#include "kernels/cuda/attention/key_norms.h"
#include "kernels/cuda/attention/slab_stream.h"
#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kTile = IntegerSlab::kTileTokens;

template <int head_dim, int row_tiles, DType keys, DType values>
struct Shape {
  static constexpr int kHeadDim = head_dim;
  static constexpr DType kKeys = keys;
  static constexpr DType kValues = values;
  static constexpr int kRowWarps = row_tiles;
  static constexpr int kTokenWarps = kWarps / row_tiles;
  // As many as the scores of a warp's share fit its registers: slabs are small.
  static constexpr int kTokens = row_tiles * head_dim <= 128 ? 128 : 64;
  static constexpr int kSubTiles = kTokens / kTile;
  static constexpr int kWarpTokens = kTokens / kTokenWarps;
  static constexpr int kScoreBlocks = kWarpTokens / 8;
  static constexpr int kDimBlocks = head_dim / 8;

  // A stage: tiles, the scales of all tokens, their zeros.
  static constexpr int kMostBytes = IntegerSlab::Bytes(
      keys == DType::kI8 || values == DType::kI8 ? DType::kI8 : DType::kI4, kTokens* head_dim);
  static constexpr int kScalesBegin = kMostBytes;
  static constexpr int kStageBytes = kScalesBegin + kTokens * 4;
  static constexpr int kStages = kMostBytes > 8192 ? 4 : 8;

  // Shared memory: the ring, the statistics of the warps, the sums that they exchange.
  static constexpr int kStatsBegin = kStages * kStageBytes;
  static constexpr int kStatsBytes = kWarps * 16 * static_cast<int>(sizeof(SoftmaxStats));
  static constexpr int kSliceBlocks = kDimBlocks / kTokenWarps;
  static constexpr int kSumsBegin = kStatsBegin + kStatsBytes;
  static constexpr int kSumsBytes = kWarps * (kTokenWarps - 1) * kSliceBlocks * 16 * 8 * 4;
  static constexpr int kSharedBytes = kSumsBegin + kSumsBytes;

  // What a lane holds of block b of a result, in its row.
  __device__ __forceinline__ static void Store(float* row, int lane, int b, float2 x) {
    const int first = IntegerPlace<values>::First(lane, b);
    row[first] = x.x;
    row[first + IntegerPlace<values>::kDistance] = x.y;
  }
};

// Reads the cache, kStages - 1 slabs ahead.
template <class S>
class IntegerRing {
 public:
  __device__ IntegerRing(const DecodeParams& params, const Units& units)
      : params_(params.attention), stream_(params, units) {
    for (int i = 0; i < S::kStages - 1; ++i) Copy(i);
  }

  // The next slab; it stays until the call after. Every thread of the block calls it.
  __device__ __forceinline__ const std::byte* Next() {
    WaitCopies<S::kStages - 2>();
    SyncThreads();  // everybody's copies of this slab are in, and the last slab has been read
    Copy((stage_ + S::kStages - 1) % S::kStages);
    const std::byte* slab = DynamicShared() + stage_ * S::kStageBytes;
    stage_ = (stage_ + 1) % S::kStages;
    return slab;
  }

 private:
  // Starts the copy of the stream's next slab, if there is one, and commits.
  __device__ __forceinline__ void Copy(int stage) {
    if (!stream_.AtEnd()) {
      std::byte* shared = DynamicShared() + stage * S::kStageBytes;
#pragma unroll
      for (int i = 0; i < S::kSubTiles; ++i) {
        if (stream_.is_key()) {
          CopyTile<S::kKeys>(shared, params_.keys, params_.key_heads, i);
        } else {
          CopyTile<S::kValues>(shared, params_.values, params_.value_heads, i);
        }
      }
      stream_.Next();
    }
    CommitCopies();
  }

  // Integers of tokens that are not visible are as good as any; tiles without a visible one become
  // zeros.
  template <DType dtype>
  __device__ __forceinline__ void CopyTile(std::byte* shared, const void* slabs, int num_heads,
                                           int i) {
    constexpr int kTileBytes = IntegerTile<dtype, S::kHeadDim>::kTileBytes;
    const IntegerSlab layout = {params_.page_size, S::kHeadDim, dtype};
    const CacheHint hint = EvictFirst();
    const int thread = static_cast<int>(threadIdx.x);
    const int token = stream_.token(i) % params_.page_size;
    const bool is_read = stream_.token(i) < stream_.valid().end;
    const std::byte* slab = static_cast<const std::byte*>(slabs) +
                            layout.Begin(stream_.page(i), num_heads, stream_.component());
    const std::byte* source = slab + layout.Offset(token, 0) + thread * 16;
    std::byte* tile = shared + i * kTileBytes + thread * 16;
#pragma unroll
    for (int k = 0; k < kTileBytes / (kThreads * 16); ++k) {
      CopyAsync16Zfill(tile + k * kThreads * 16, source + k * kThreads * 16, is_read, hint);
    }
    // Eight threads copy the scales of 64 tokens, eight others the zeros.
    constexpr int kCopies = kTile * 2 / 16;
    if (thread >= (dtype == DType::kI4 ? 2 : 1) * kCopies) return;
    const bool is_zero = thread >= kCopies;
    const int part = thread % kCopies * 16;
    CopyAsync16Zfill(
        shared + S::kScalesBegin + (is_zero ? S::kTokens * 2 : 0) + i * kTile * 2 + part,
        slab + (is_zero ? layout.Zero(token) : layout.Scale(token)) + part, is_read, hint);
  }

  const AttentionParams& params_;
  SlabStream<S::kHeadDim, S::kTokens> stream_;
  int stage_ = 0;
};

template <class S>
__global__ void __launch_bounds__(kThreads, 2)
    DecodeIntegers(const __grid_constant__ DecodeParams params) {
  WaitForPrevious();
  LetNextStart();
  using Keys = IntegerTile<S::kKeys, S::kHeadDim>;
  using Values = IntegerTile<S::kValues, S::kHeadDim>;
  const AttentionParams& p = params.attention;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int first_token = warp / S::kRowWarps * S::kWarpTokens;  // of the warp, in a tile
  const IntegerOffsets<S::kKeys> key_offsets(lane);
  const IntegerOffsets<S::kValues> value_offsets(lane);
  const auto scales_of = [&](const std::byte* stage) -> StageScales {
    return {stage + S::kScalesBegin + first_token * 2, S::kTokens * 2};
  };
  const Units units(params.list, HeadBlock::Count(p));
  IntegerRing<S> ring(params, units);
  for (int unit = units.begin; unit < units.end; ++unit) {
    const WorkItem item = params.list.items[unit];
    const HeadBlock block = HeadBlock::At(p, units.part);
    const HeadRows rows(p, block, warp % S::kRowWarps, lane);
    const IntegerQueries<S::kKeys, S::kHeadDim> q(p, rows, item.row, lane);
    Accumulator<S::kHeadDim> acc;
    float common[2] = {0.0f, 0.0f};  // of all elements of a row
    for (int tile = item.begin / kTile * kTile; tile < item.end; tile += S::kTokens) {
      float s[S::kScoreBlocks][4] = {};
      const int token = tile + first_token;
      KeyNorms(p, item, token, rows.g).Prefetch(lane);
#pragma unroll 1
      for (int c = 0; c < block.num_keys; ++c) {
        const PerRow mix = rows.Mix(p.key_mix, p.kv_heads, block.key_begin + c);
        const std::byte* stage = ring.Next();
        AddIntegerScores(q, stage + Keys::TokenBytes(first_token), scales_of(stage), key_offsets,
                         lane, mix, s);
      }
      FinishScores<S>(p, item, token, lane, rows.g, s);
      const PerRow decay = acc.Exponentiate(s);
      common[0] *= decay.low;
      common[1] *= decay.high;
#pragma unroll 1
      for (int c = 0; c < block.num_values; ++c) {
        const PerRow mix = rows.Mix(p.value_mix, p.kv_heads, block.value_begin + c);
        const std::byte* stage = ring.Next();
        AddIntegerValues<S::kValues, S::kHeadDim>(
            s, stage + Values::TokenBytes(first_token), scales_of(stage), value_offsets, lane,
            TokenRange{item.begin - token, item.end - token}, mix, acc.o, common);
      }
    }
    if constexpr (S::kValues == DType::kI4) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float all = QuadSum(common[i]);
#pragma unroll
        for (int b = 0; b < S::kDimBlocks; ++b) {
          acc.o[b][2 * i] += all;
          acc.o[b][2 * i + 1] += all;
        }
      }
    }
    WriteItem<S>(params, rows, unit, warp, lane, acc);
  }
}

template <class S>
cudaError_t LaunchShape(const DecodeParams& params, cudaStream_t stream) {
  return Launch({.grid = dim3(static_cast<unsigned>(params.num_blocks)),
                 .block = dim3(kThreads),
                 .shared_bytes = S::kSharedBytes,
                 .stream = stream,
                 .overlaps_previous = true},
                DecodeIntegers<S>, params);
}

template <DType keys, DType values, int head_dim>
cudaError_t LaunchRows(const DecodeParams& params, cudaStream_t stream) {
  const int num_heads = HeadBlock::SharingHeads(params.attention);
  if (num_heads <= 16) return LaunchShape<Shape<head_dim, 1, keys, values>>(params, stream);
  if (num_heads <= 32) return LaunchShape<Shape<head_dim, 2, keys, values>>(params, stream);
  return LaunchShape<Shape<head_dim, 4, keys, values>>(params, stream);
}

template <DType keys, DType values>
cudaError_t LaunchFormats(const DecodeParams& params, cudaStream_t stream) {
  if (params.attention.head_dim == 64) return LaunchRows<keys, values, 64>(params, stream);
  return LaunchRows<keys, values, 128>(params, stream);
}

}  // namespace

cudaError_t LaunchDecodeIntegers(const DecodeParams& params, cudaStream_t stream) {
  const auto& [keys, values] = params.attention.dtype;
  if (keys == DType::kI4) return LaunchFormats<DType::kI4, DType::kI4>(params, stream);
  if (values == DType::kI4) return LaunchFormats<DType::kI8, DType::kI4>(params, stream);
  return LaunchFormats<DType::kI8, DType::kI8>(params, stream);
}

}  // namespace mea::cuda
