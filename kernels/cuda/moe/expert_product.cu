#include <algorithm>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/moe/moe.h"
#include "kernels/cuda/moe/weight_rows.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kTileOutputs = 16;  // of one product of the tensor core
constexpr int kTileRows = 8;
constexpr int kFewTiles = 1;    // row tiles of a block where slots are few: weights stream
constexpr int kManyTiles = 4;   // and where they are many
constexpr int kManySlots = 16;  // of each expert on average

// A warp has two tiles of outputs, which share what it reads of x: 16 gates and their 16 ups, or 32
// outputs of one matrix.
__host__ __device__ constexpr int OutputsOfWarp(bool is_gated) {
  return is_gated ? kTileOutputs : 2 * kTileOutputs;
}

// A warp multiplies its outputs with the rows of one tile of slots, 32 elements of k after the
// other whatever the tile's length: a result's bits do not depend on it.
template <bool kIsGated, int kRowTiles>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    ExpertProductKernel(const __grid_constant__ ExpertProductParams p) {
  constexpr int kAhead = kRowTiles == kFewTiles ? 4 : 1;  // slices of weights under way
  const SliceLane lane;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int output = (static_cast<int>(blockIdx.x) * kWarps + warp) * OutputsOfWarp(kIsGated);
  WaitForPrevious();
  LetNextStart();
  if (static_cast<int>(blockIdx.y) >= *p.num_tiles || output >= p.out_features) return;
  const ExpertTile tile = p.tiles[blockIdx.y];

  const Bf16* w = p.w + tile.expert * p.expert_stride;
  const WeightRows first(w, output, p.out_features, p.in_features, lane);
  const WeightRows second =
      kIsGated ? WeightRows(p.up + tile.expert * p.expert_stride, output, p.out_features,
                            p.in_features, lane)
               : WeightRows(w, output + kTileOutputs, p.out_features, p.in_features, lane);
  const Bf16* x[kRowTiles];  // the lane's row of each row tile, or null
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const int position = tile.begin + r * kTileRows + lane.g;
    x[r] = position < tile.end ? p.x + p.order[position] / p.slots_per_row * p.x_stride : nullptr;
  }

  const int end = p.in_features;
  WeightSlice next[kAhead][2];
#pragma unroll
  for (int s = 0; s < kAhead; ++s) {
    next[s][0] = first.Load(s * kSlice + lane.k, end);
    next[s][1] = second.Load(s * kSlice + lane.k, end);
  }
  float sums[2][kRowTiles][4] = {};
  for (int k = 0; k < end; k += kAhead * kSlice) {
#pragma unroll
    for (int s = 0; s < kAhead; ++s) {
      const int at = k + s * kSlice + lane.k;
      uint4 rows[kRowTiles];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        rows[r] =
            x[r] != nullptr && at < end ? *reinterpret_cast<const uint4*>(x[r] + at) : uint4{};
      }
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        MultiplySlice(next[s][0], rows[r], sums[0][r]);
        MultiplySlice(next[s][1], rows[r], sums[1][r]);
      }
      next[s][0] = first.Load(at + kAhead * kSlice, end);
      next[s][1] = second.Load(at + kAhead * kSlice, end);
    }
  }

#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = tile.begin + r * kTileRows + lane.t * 2 + i % 2;
      if (position >= tile.end) continue;
      Bf16* out = p.out + p.order[position] * p.out_stride;
      const int o = output + lane.g + i / 2 * 8;
      if constexpr (kIsGated) {
        if (o < p.out_features) out[o] = Narrow(Silu(sums[0][r][i]) * sums[1][r][i]);
      } else {
        if (o < p.out_features) out[o] = Narrow(sums[0][r][i]);
        if (o + kTileOutputs < p.out_features) out[o + kTileOutputs] = Narrow(sums[1][r][i]);
      }
    }
  }
}

// Every expert's last tile may have one slot.
int TilesAtMost(int num_slots, int num_experts, int rows) {
  return (num_slots + (rows - 1) * std::min(num_experts, num_slots)) / rows;
}

}  // namespace

int ExpertTileRows(int num_slots, int num_experts) {
  return kTileRows * (num_slots < kManySlots * num_experts ? kFewTiles : kManyTiles);
}

int MaxExpertTiles(int num_slots, int num_experts) {
  return TilesAtMost(num_slots, num_experts, ExpertTileRows(num_slots, num_experts));
}

int ExpertTileRoom(int num_slots, int num_experts) {
  return TilesAtMost(num_slots, num_experts, kTileRows * kFewTiles);
}

cudaError_t LaunchExpertProduct(const ExpertProductParams& p, cudaStream_t stream) {
  if (p.num_slots == 0) return cudaSuccess;
  if (p.in_features % kVectorElements != 0 || !StartAligned(p.x, p.x_stride) ||
      !StartAligned(p.w, p.expert_stride) || !StartAligned(p.up, p.expert_stride)) {
    return cudaErrorInvalidValue;
  }
  const bool is_gated = p.up != nullptr;
  const bool is_many = ExpertTileRows(p.num_slots, p.num_experts) > kTileRows * kFewTiles;
  const int outputs = kWarps * OutputsOfWarp(is_gated);
  const LaunchConfig config = {.grid = dim3((p.out_features + outputs - 1) / outputs,
                                            MaxExpertTiles(p.num_slots, p.num_experts)),
                               .block = dim3(kWarps * kWarpSize),
                               .stream = stream,
                               .overlaps_previous = true};
  if (is_gated) {
    return Launch(
        config,
        is_many ? ExpertProductKernel<true, kManyTiles> : ExpertProductKernel<true, kFewTiles>, p);
  }
  return Launch(
      config,
      is_many ? ExpertProductKernel<false, kManyTiles> : ExpertProductKernel<false, kFewTiles>, p);
}

}  // namespace mea::cuda
