#include "kernels/cuda/linear/skinny_gemm.h"

#include <algorithm>

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

// A block computes one tile of 16 outputs for all rows; its warps share in_features among them, and
// where tiles are few, blocks do so too. In a step a warp multiplies [16 outputs, 64] of w with
// [8 rows, 64] of x. Sums over k may take k in any fixed order: the 16 bytes that a lane loads of
// a row are what it feeds to two tensor-core products as if they were columns 2t, 2t+1, 2t+8, 2t+9,
// so w goes from memory to registers to the tensor core and nowhere between.
constexpr int kTileOutputs = 16;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kStep = 64;   // of k, per warp
constexpr int kSlice = 32;  // of k, per pair of products
constexpr int kSlices = kStep / kSlice;
constexpr int kAhead = 3;  // steps of weights under way, each in registers of its own
constexpr int kBlockStep = kStep * kWarps;
constexpr int kTileResults = kTileOutputs * kMaxSkinnyRows;

// How the work is cut; of the shape of w alone.
struct Split {
  int tiles;
  int splits;       // blocks that share a tile
  int split_steps;  // steps of kBlockStep of each
};

Split SplitOf(int out_features, int in_features) {
  constexpr int kEnoughTiles = 96;  // of 132 multiprocessors
  constexpr int kWantedBlocks = 128;
  const int tiles = (out_features + kTileOutputs - 1) / kTileOutputs;
  const int steps = (in_features + kBlockStep - 1) / kBlockStep;
  if (tiles >= kEnoughTiles) return {tiles, 1, steps};
  const int wanted = std::min(steps, (kWantedBlocks + tiles - 1) / tiles);
  const int split_steps = (steps + wanted - 1) / wanted;
  return {tiles, (steps + split_steps - 1) / split_steps, split_steps};
}

struct WeightStep {
  uint4 low[kSlices];   // output g of the tile
  uint4 high[kSlices];  // output g + 8
};
struct RowStep {
  uint4 row[kSlices];  // row g of x
};

// Where a lane reads: element 0 of its 8 in a slice of a step.
struct Lane {
  int g = static_cast<int>(threadIdx.x % kWarpSize) / 4;
  int k = static_cast<int>(threadIdx.x % 4) * 8;
};

// The lane's two rows of the tile; outputs beyond the last repeat it, they are not stored.
struct TileWeights {
  const Bf16* low;
  const Bf16* high;

  __device__ TileWeights(const SkinnyGemmParams& p, Lane lane, int tile) {
    const int last = p.out_features - 1;
    const int output = tile * kTileOutputs + lane.g;
    low = p.w + (output < last ? output : last) * p.w_stride;
    high = p.w + (output + 8 < last ? output + 8 : last) * p.w_stride;
  }
};

// Elements beyond the end repeat the last ones: x is zero there. A load under a condition would be
// followed by moves, which wait for it.
__device__ __forceinline__ WeightStep LoadWeights(const TileWeights& rows, Lane lane, int k,
                                                  int end) {
  WeightStep step;
#pragma unroll
  for (int s = 0; s < kSlices; ++s) {
    int at = k + s * kSlice + lane.k;
    at = at < end ? at : end - kVectorElements;
    step.low[s] = LoadStreaming128(rows.low + at);
    step.high[s] = LoadStreaming128(rows.high + at);
  }
  return step;
}

__device__ __forceinline__ RowStep LoadRows(const SkinnyGemmParams& p, Lane lane, int k, int end) {
  const Bf16* x = p.x + lane.g * p.x_stride;
  RowStep step;
#pragma unroll
  for (int s = 0; s < kSlices; ++s) {
    const int at = k + s * kSlice + lane.k;
    const bool inside = lane.g < p.num_rows && at < end;
    step.row[s] = inside ? *reinterpret_cast<const uint4*>(x + at) : uint4{};
  }
  return step;
}

__device__ __forceinline__ void Multiply(const WeightStep& w, const RowStep& x, float (&sums)[4]) {
#pragma unroll
  for (int s = 0; s < kSlices; ++s) {
    const uint32_t first[4] = {w.low[s].x, w.high[s].x, w.low[s].y, w.high[s].y};
    const uint32_t second[4] = {w.low[s].z, w.high[s].z, w.low[s].w, w.high[s].w};
    MmaBf16(sums, first, x.row[s].x, x.row[s].y);
    MmaBf16(sums, second, x.row[s].z, x.row[s].w);
  }
}

// This thread's result of the tile, thread = row * kTileOutputs + output, over all warps of the
// block, in their order.
__device__ float SumOfWarps(const float (&sums)[4]) {
  float* shared = reinterpret_cast<float*>(DynamicShared());  // [kWarps, rows, kTileOutputs]
  const int lane = threadIdx.x % kWarpSize;
  float* mine = shared + threadIdx.x / kWarpSize * kTileResults;
  for (int i = 0; i < 4; ++i) {
    const int output = lane / 4 + i / 2 * 8;
    const int row = lane % 4 * 2 + i % 2;
    mine[row * kTileOutputs + output] = sums[i];
  }
  SyncThreads();
  float sum = 0;
  if (threadIdx.x < kTileResults) {
    for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp * kTileResults + threadIdx.x];
  }
  return sum;
}

// The sum over all blocks of the tile, in their order, in the block that comes last; the others
// return false.
__device__ bool SumOfBlocks(const SkinnyGemmParams& p, int tile, float& sum) {
  const int num_splits = gridDim.y;
  const auto partial = [&p, tile](int split) {
    return p.partials + (static_cast<int64_t>(split) * gridDim.x + tile) * kTileResults +
           threadIdx.x;
  };
  if (threadIdx.x < kTileResults) *partial(blockIdx.y) = sum;
  ThreadFence();
  SyncThreads();
  int* is_last = reinterpret_cast<int*>(DynamicShared());
  if (threadIdx.x == 0) *is_last = AtomicAdd(&p.tickets[tile], 1) == num_splits - 1 ? 1 : 0;
  SyncThreads();
  if (*is_last == 0) return false;
  ThreadFence();
  if (threadIdx.x == 0) p.tickets[tile] = 0;
  sum = 0;
  if (threadIdx.x < kTileResults) {
    for (int split = 0; split < num_splits; ++split) sum += *partial(split);
  }
  return true;
}

// Bytes: 2 in_features out_features, and the rows.
__global__ void __launch_bounds__(kThreads, 3)
    SkinnyGemmKernel(const __grid_constant__ SkinnyGemmParams p, int split_steps) {
  const int tile = blockIdx.x;
  const Lane lane;
  const int begin = static_cast<int>(blockIdx.y) * split_steps * kBlockStep;
  const int end = begin + split_steps * kBlockStep < p.in_features
                      ? begin + split_steps * kBlockStep
                      : p.in_features;
  int k = begin + static_cast<int>(threadIdx.x / kWarpSize) * kStep;
  const TileWeights rows(p, lane, tile);
  WeightStep w[kAhead];  // weights do not change: no need to wait
#pragma unroll
  for (int i = 0; i < kAhead; ++i) w[i] = LoadWeights(rows, lane, k + i * kBlockStep, end);
  WaitForPrevious();
  LetNextStart();
  float sums[4] = {};
  while (k < end) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      Multiply(w[i], LoadRows(p, lane, k, end), sums);
      SyncWarp();  // else loads move before products, and need registers of their own
      w[i] = LoadWeights(rows, lane, k + kAhead * kBlockStep, end);
      k += kBlockStep;
    }
  }

  float sum = SumOfWarps(sums);
  if (gridDim.y > 1 && !SumOfBlocks(p, tile, sum)) return;
  const int row = static_cast<int>(threadIdx.x) / kTileOutputs;
  const int output = tile * kTileOutputs + static_cast<int>(threadIdx.x) % kTileOutputs;
  if (row >= p.num_rows || output >= p.out_features) return;
  if (p.bias != nullptr) sum += p.bias[output];
  const int64_t at = row * p.out_stride + output;
  if (p.out != nullptr) {
    p.out[at] = Narrow(sum);
  } else {
    p.out_f32[at] = sum;
  }
}

}  // namespace

int64_t SkinnyGemmPartials(int out_features, int in_features) {
  const Split split = SplitOf(out_features, in_features);
  return split.splits == 1 ? 0 : static_cast<int64_t>(split.splits) * split.tiles * kTileResults;
}

int64_t SkinnyGemmTickets(int out_features, int in_features) {
  const Split split = SplitOf(out_features, in_features);
  return split.splits == 1 ? 0 : split.tiles;
}

cudaError_t LaunchSkinnyGemm(const SkinnyGemmParams& p, cudaStream_t stream) {
  if (p.num_rows == 0 || p.out_features == 0) return cudaSuccess;
  if (p.num_rows > kMaxSkinnyRows || p.in_features % kVectorElements != 0 ||
      !StartAligned(p.x, p.x_stride) || !StartAligned(p.w, p.w_stride)) {
    return cudaErrorInvalidValue;
  }
  const Split split = SplitOf(p.out_features, p.in_features);
  return Launch({.grid = dim3(split.tiles, split.splits),
                 .block = dim3(kThreads),
                 .shared_bytes = kWarps * kTileResults * static_cast<int>(sizeof(float)),
                 .stream = stream,
                 .overlaps_previous = true},
                SkinnyGemmKernel, p, split.split_steps);
}

}  // namespace mea::cuda
