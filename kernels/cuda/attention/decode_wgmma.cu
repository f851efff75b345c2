// The same sums as decode_mma.cu, on Hopper: a block is a warpgroup, 64 query heads are the rows of
// its products, and slabs come through a ring that bulk copies fill. Two blocks share a
// multiprocessor and hide each other's waits.
#include "kernels/cuda/attention/decode_wgmma.h"

#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/key_norms.h"
#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/slab_ring.h"
#include "kernels/cuda/attention/slab_stream.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/device/wgmma.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = DecodeWgmmaShape<64>::kThreads;
constexpr int kTile = SlabLayout::kTileTokens;
constexpr int kRows = HeadBlock::kMaxHeads;
constexpr int kTileScores = kTile / 2;  // of a lane: two rows of 64 tokens, shared by four lanes

template <int head_dim, WeightRounding rounding>
class Worker {
 public:
  __device__ Worker(const DecodeParams& params, const Units& units)
      : params_(params),
        p_(params.attention),
        units_(units),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % kWarpSize),
        ring_(params, units) {}

  __device__ void Run() {
    for (int unit = units_.begin; unit < units_.end; ++unit) {
      item_ = params_.list.items[unit];
      block_ = HeadBlock::At(p_, units_.part);
      Begin();
      float o[head_dim / 2] = {};
      float max[2] = {kMaskedScore, kMaskedScore};
      float sum[2] = {0.0f, 0.0f};
      for (int token = item_.begin / kTile * kTile; token < item_.end; token += S::kTokens) {
        float s[S::kSubTiles][kTileScores] = {};
#pragma unroll
        for (int i = 0; i < S::kSubTiles; ++i) {
          KeyNorms(p_, item_, token + i * kTile, g_).Prefetch(lane_);
        }
#pragma unroll 1
        for (int c = 0; c < block_.num_keys; ++c) AddScores(c, s);
        FinishScores(token, s);
        Exponentiate(s, o, max, sum);
#pragma unroll 1
        for (int c = 0; c < block_.num_values; ++c) AddValues(c, s, o);
      }
      Write(unit, o, max, sum);
    }
  }

 private:
  using S = DecodeWgmmaShape<head_dim>;

  // The queries of the block's heads, rows behind them zero, in the image that the products read.
  __device__ void Begin() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = thread_ / kWarpSize * 16 + lane_ / 4 + 8 * i;
      valid_[i] = row < block_.num_heads;
      head_[i] = block_.first_head + (valid_[i] ? row : block_.num_heads - 1);
      g_[i] = head_[i] / p_.group();
    }
    constexpr int kGranules = head_dim / SlabLayout::kGranuleElements;
    const Bf16* q = p_.Query(item_.row, block_.first_head);
    auto* shared = reinterpret_cast<Bf16*>(DynamicShared() + S::kQueriesBegin);
    SyncThreads();  // nobody reads the last item's
    for (int i = thread_; i < kRows * kGranules; i += kThreads) {
      const int row = i / kGranules;
      const int element = i % kGranules * SlabLayout::kGranuleElements;
      uint4 granule = {0, 0, 0, 0};
      if (row < block_.num_heads) granule = LoadGlobal128(q + row * head_dim + element);
      *reinterpret_cast<uint4*>(shared + SlabLayout::TileOffset(row, element)) = granule;
    }
    FenceProxyAsync();
    SyncThreads();
  }

  // s += A[c, g] (q . K_c)
  __device__ __forceinline__ void AddScores(int c, float (&s)[S::kSubTiles][kTileScores]) {
    const float low = MixWeight(p_.key_mix, p_.kv_heads, block_.key_begin + c, g_[0]);
    const float high = MixWeight(p_.key_mix, p_.kv_heads, block_.key_begin + c, g_[1]);
    const MatrixDescriptor q = Descriptor(DynamicShared() + S::kQueriesBegin, 0, 1024);
    const MatrixDescriptor keys = Descriptor(ring_.Wait(), 0, 1024);
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      float dot[kTileScores];
      WgmmaFence(dot);
#pragma unroll
      for (int k = 0; k < head_dim / 16; ++k) {
        const int step = k / 4 * kChunkBytes + k % 4 * 32;
        WgmmaSS64<kTile>(dot, Advance(q, step), Advance(keys, i * S::kSubTileBytes + step), k != 0);
      }
      WgmmaCommit();
      WgmmaWait<0>(dot);
      if (i == S::kSubTiles - 1) ring_.Release();
#pragma unroll
      for (int e = 0; e < kTileScores; ++e) s[i][e] += (e % 4 < 2 ? low : high) * dot[e];
    }
  }

  // Scores in powers of two: s <- s * scale * r[t, g], and kMaskedScore where t is not visible.
  __device__ __forceinline__ void FinishScores(int token,
                                               float (&s)[S::kSubTiles][kTileScores]) const {
    const float scale = p_.scale * kLog2E;
    const bool is_edge = token < item_.begin || token + S::kTokens > item_.end;
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      const int first = token + i * kTile;
      const KeyNorms of_heads(p_, item_, first, g_);
#pragma unroll
      for (int pair = 0; pair < kTileScores / 2; ++pair) {
        const int offset = pair / 2 * 8 + lane_ % 4 * 2;  // of its two tokens, in the tile
        float2 factors = {scale, scale};
        if (of_heads.low != nullptr) {
          const float2 norms = *reinterpret_cast<const float2*>(
              (pair % 2 == 0 ? of_heads.low : of_heads.high) + offset);
          factors = {scale * norms.x, scale * norms.y};
        }
        float& low = s[i][2 * pair];
        float& high = s[i][2 * pair + 1];
        low *= factors.x;
        high *= factors.y;
        const int t = first + offset;
        if (is_edge && (t < item_.begin || t >= item_.end)) low = kMaskedScore;
        if (is_edge && (t + 1 < item_.begin || t + 1 >= item_.end)) high = kMaskedScore;
      }
    }
  }

  // Scores become weights relative to the new maximum.
  __device__ __forceinline__ void Exponentiate(float (&s)[S::kSubTiles][kTileScores],
                                               float (&o)[head_dim / 2], float (&max)[2],
                                               float (&sum)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float new_max = max[i];
#pragma unroll
      for (int j = 0; j < S::kSubTiles; ++j) {
#pragma unroll
        for (int e = 0; e < kTileScores; ++e) {
          if (e % 4 / 2 == i) new_max = fmaxf(new_max, s[j][e]);
        }
      }
      new_max = QuadMax(new_max);
      const float decay = Exp2(max[i] - new_max);
      max[i] = new_max;
      sum[i] *= decay;
#pragma unroll
      for (int e = 0; e < head_dim / 2; ++e) {
        if (e % 4 / 2 == i) o[e] *= decay;
      }
#pragma unroll
      for (int j = 0; j < S::kSubTiles; ++j) {
#pragma unroll
        for (int e = 0; e < kTileScores; ++e) {
          if (e % 4 / 2 != i) continue;
          s[j][e] = Exp2(s[j][e] - new_max);
          sum[i] += s[j][e];
        }
      }
    }
  }

  // o += (B[c, g] * s) V_c
  __device__ __forceinline__ void AddValues(int c, const float (&s)[S::kSubTiles][kTileScores],
                                            float (&o)[head_dim / 2]) {
    constexpr int kSteps = kTile / 16;
    const float low = MixWeight(p_.value_mix, p_.kv_heads, block_.value_begin + c, g_[0]);
    const float high = MixWeight(p_.value_mix, p_.kv_heads, block_.value_begin + c, g_[1]);
    const MatrixDescriptor values = Descriptor(ring_.Wait(), kChunkBytes, 1024);
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      uint32_t weights[kSteps][4];
      uint32_t residual[kSteps][4];
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float m = j % 2 == 0 ? low : high;
          const float first = s[i][8 * k + 2 * j] * m;
          const float second = s[i][8 * k + 2 * j + 1] * m;
          weights[k][j] = PackBf16(first, second);
          if constexpr (rounding == WeightRounding::kTwoBf16) {
            const float2 rounded = UnpackBf16(weights[k][j]);
            residual[k][j] = PackBf16(first - rounded.x, second - rounded.y);
          }
        }
      }
      WgmmaFence(o, weights);
      if constexpr (rounding == WeightRounding::kTwoBf16) WgmmaFence(residual);
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const MatrixDescriptor step = Advance(values, i * S::kSubTileBytes + k * 2048);
        WgmmaRS64<head_dim>(o, weights[k], step, true);
        if constexpr (rounding == WeightRounding::kTwoBf16) {
          WgmmaRS64<head_dim>(o, residual[k], step, true);
        }
      }
      WgmmaCommit();
      WgmmaWait<0>(o);
    }
    ring_.Release();
  }

  __device__ void Write(int item, const float (&o)[head_dim / 2], const float (&max)[2],
                        const float (&sum)[2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const SoftmaxStats stats = {max[i], QuadSum(sum[i])};
      if (!valid_[i]) continue;
      const int64_t record = int64_t{item} * p_.q_heads + head_[i];
      float* out = params_.partial_out + record * head_dim + lane_ % 4 * 2;
#pragma unroll
      for (int b = 0; b < head_dim / 8; ++b) {
        *reinterpret_cast<float2*>(out + b * 8) =
            make_float2(o[4 * b + 2 * i], o[4 * b + 2 * i + 1]);
      }
      if (lane_ % 4 == 0) params_.partial_stats[record] = stats;
    }
  }

  const DecodeParams& params_;
  const AttentionParams& p_;
  const Units& units_;
  const int thread_;
  const int lane_;
  SlabRing<head_dim> ring_;
  WorkItem item_;
  HeadBlock block_;
  int head_[2];  // query heads of the lane's rows; a padded row repeats the last
  int g_[2];     // their virtual heads
  bool valid_[2];
};

template <int head_dim, WeightRounding rounding>
__global__ void __launch_bounds__(kThreads, 2)
    DecodeWgmma(const __grid_constant__ DecodeParams params) {
  SlabRing<head_dim>::Init();
  WaitForPrevious();
  LetNextStart();
  const Units units(params.list, HeadBlock::Count(params.attention));
  Worker<head_dim, rounding>(params, units).Run();
}

template <int head_dim, WeightRounding rounding>
cudaError_t LaunchShape(const DecodeParams& params, cudaStream_t stream) {
  return Launch({.grid = dim3(static_cast<unsigned>(params.num_blocks)),
                 .block = dim3(kThreads),
                 .shared_bytes = DecodeWgmmaShape<head_dim>::kSharedBytes,
                 .stream = stream,
                 .overlaps_previous = true},
                DecodeWgmma<head_dim, rounding>, params);
}

}  // namespace

cudaError_t LaunchDecodeWgmma(const DecodeParams& params, WeightRounding rounding,
                              cudaStream_t stream) {
  const bool two = rounding == WeightRounding::kTwoBf16;
  if (params.attention.head_dim == 64) {
    return two ? LaunchShape<64, WeightRounding::kTwoBf16>(params, stream)
               : LaunchShape<64, WeightRounding::kBf16>(params, stream);
  }
  return two ? LaunchShape<128, WeightRounding::kTwoBf16>(params, stream)
             : LaunchShape<128, WeightRounding::kBf16>(params, stream);
}

}  // namespace mea::cuda
