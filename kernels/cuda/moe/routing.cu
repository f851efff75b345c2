#include "kernels/cuda/activation.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/moe/moe.h"
#include "kernels/cuda/moe/weight_rows.h"
#include "kernels/cuda/vector8.h"

namespace mea::cuda {
namespace {

// ---- Logits. A block has 16 experts and 8 rows; its warps share in_features, always alike: a
// row's logits must not depend on the batch, or its experts would.

constexpr int kRouterExperts = 16;
constexpr int kRouterRows = 8;
constexpr int kRouterWarps = 8;
constexpr int kRouterResults = kRouterExperts * kRouterRows;

// Bytes: 2 per weight for each 8 rows, from the cache but for the first.
__global__ void __launch_bounds__(kRouterWarps* kWarpSize)
    RouterKernel(const __grid_constant__ RouterParams p) {
  const SliceLane lane;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int first_expert = static_cast<int>(blockIdx.x) * kRouterExperts;
  const int first_row = static_cast<int>(blockIdx.y) * kRouterRows;
  const WeightRows w(p.router, first_expert, p.num_experts, p.in_features, lane);
  WaitForPrevious();
  LetNextStart();
  const bool has_row = first_row + lane.g < p.num_tokens;
  const Bf16* x = p.x + (has_row ? first_row + lane.g : 0) * p.x_stride;
  float sums[4] = {};
#pragma unroll 4
  for (int k = warp * kSlice; k < p.in_features; k += kRouterWarps * kSlice) {
    const int at = k + lane.k;
    const uint4 row =
        has_row && at < p.in_features ? *reinterpret_cast<const uint4*>(x + at) : uint4{};
    MultiplySlice(w.Load(at, p.in_features), row, sums);
  }

  float* shared = reinterpret_cast<float*>(DynamicShared());  // [kRouterWarps, rows, experts]
  for (int i = 0; i < 4; ++i) {
    const int expert = lane.g + i / 2 * 8;
    const int row = lane.t * 2 + i % 2;
    shared[warp * kRouterResults + row * kRouterExperts + expert] = sums[i];
  }
  SyncThreads();
  const int result = static_cast<int>(threadIdx.x);
  const int row = first_row + result / kRouterExperts;
  const int expert = first_expert + result % kRouterExperts;
  if (result >= kRouterResults || row >= p.num_tokens || expert >= p.num_experts) return;
  float sum = 0;
  for (int i = 0; i < kRouterWarps; ++i) sum += shared[i * kRouterResults + result];
  p.logits[static_cast<int64_t>(row) * p.num_experts + expert] = sum;
}

// ---- Choice: a warp per row.

constexpr int kChooseWarps = 4;

// Larger for what counts more: NaN least, and the two zeros alike.
__device__ __forceinline__ uint32_t Rank(float logit) {
  if (logit != logit) return 0;
  const uint32_t bits = __builtin_bit_cast(uint32_t, logit + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

struct Candidate {
  uint32_t rank;
  int expert;
};

__device__ __forceinline__ bool IsBefore(Candidate a, Candidate b) {
  return a.rank > b.rank || (a.rank == b.rank && a.expert < b.expert);
}

// The first candidate after `last`; all lanes get it.
__device__ Candidate Next(const float* logits, int num_experts, Candidate last, int lane) {
  Candidate best = {0, num_experts};
  for (int e = lane; e < num_experts; e += kWarpSize) {
    const Candidate candidate = {Rank(logits[e]), e};
    if (IsBefore(last, candidate) && IsBefore(candidate, best)) best = candidate;
  }
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    const Candidate other = {ShflXor(best.rank, mask), ShflXor(best.expert, mask)};
    if (IsBefore(other, best)) best = other;
  }
  return best;
}

__global__ void __launch_bounds__(kChooseWarps* kWarpSize)
    ChooseExpertsKernel(const __grid_constant__ ChooseExpertsParams p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t token = blockIdx.x * kChooseWarps + threadIdx.x / kWarpSize;
  WaitForPrevious();
  LetNextStart();
  if (token >= p.num_tokens) return;
  const float* logits = p.logits + token * p.num_experts;

  // Lane i has the i-th best.
  Candidate last = {~0u, -1};
  int mine = p.num_experts;
  int first = 0;
  for (int i = 0; i < p.top_k; ++i) {
    last = Next(logits, p.num_experts, last, lane);
    if (i == 0) first = last.expert;
    if (lane == i) mine = last.expert;
  }
  const float max = logits[first];
  const float gate = lane < p.top_k ? Exp(logits[mine] - max) : 0.0f;
  float sum = gate;
  if (!p.renormalise) {
    sum = 0;
    for (int e = lane; e < p.num_experts; e += kWarpSize) sum += Exp(logits[e] - max);
  }
  int place = 0;  // among the chosen, ascending
  for (int i = 0; i < p.top_k; ++i) place += Shfl(mine, i) < mine ? 1 : 0;
  // Partners add the same two numbers, so all lanes get the same sum.
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) sum += ShflXor(sum, mask);
  if (lane >= p.top_k) return;
  p.chosen[token * p.top_k + place] = mine;
  p.gates[token * p.top_k + place] = gate / sum;
}

// ---- Grouping: a block per expert, which counts the slots of those before it for itself.

constexpr int kGroupThreads = 256;
constexpr int kGroupWarps = kGroupThreads / kWarpSize;

__device__ int SumOfLanes(int value) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += ShflXor(value, mask);
  return value;
}

struct GroupShared {
  int before[kGroupWarps];  // in a round, the expert's slots that each warp has found
  int begin;                // positions and tiles of the experts before this one
  int first_tile;
  int counts[kMaxExperts];  // of this expert and those before it
};

__device__ void FindBegin(const GroupSlotsParams& p, int expert, int tile_rows,
                          GroupShared& shared) {
  for (int e = threadIdx.x; e <= expert; e += kGroupThreads) shared.counts[e] = 0;
  SyncThreads();
  for (int i = threadIdx.x; i < p.num_slots; i += kGroupThreads) {
    const int chosen = p.chosen[i];
    if (chosen <= expert) AtomicAdd(&shared.counts[chosen], 1);
  }
  SyncThreads();
  if (threadIdx.x < kWarpSize) {
    int rows = 0, tiles = 0;
    for (int e = threadIdx.x; e < expert; e += kWarpSize) {
      rows += shared.counts[e];
      tiles += (shared.counts[e] + tile_rows - 1) / tile_rows;
    }
    rows = SumOfLanes(rows);
    tiles = SumOfLanes(tiles);
    if (threadIdx.x == 0) {
      shared.begin = rows;
      shared.first_tile = tiles;
    }
  }
  SyncThreads();
}

__global__ void __launch_bounds__(kGroupThreads)
    GroupSlotsKernel(const __grid_constant__ GroupSlotsParams p, int tile_rows) {
  GroupShared& shared = *reinterpret_cast<GroupShared*>(DynamicShared());
  const int expert = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  WaitForPrevious();
  LetNextStart();
  FindBegin(p, expert, tile_rows, shared);
  const int count = shared.counts[expert];
  const int tiles = (count + tile_rows - 1) / tile_rows;
  for (int i = threadIdx.x; i < tiles; i += kGroupThreads) {
    const int begin = shared.begin + i * tile_rows;
    const int end = shared.begin + count;
    p.tiles[shared.first_tile + i] = {expert, begin,
                                      begin + tile_rows < end ? begin + tile_rows : end};
  }
  if (expert == p.num_experts - 1 && threadIdx.x == 0) *p.num_tiles = shared.first_tile + tiles;

  int position = shared.begin;
  for (int first = 0; first < p.num_slots; first += kGroupThreads) {
    const int slot = first + static_cast<int>(threadIdx.x);
    const bool is_mine = slot < p.num_slots && p.chosen[slot] == expert;
    // Lanes before this one that have a slot of the expert.
    int before = is_mine ? 1 : 0;
    for (int delta = 1; delta < kWarpSize; delta *= 2) {
      const int other = ShflUp(before, delta);
      if (lane >= delta) before += other;
    }
    if (lane == kWarpSize - 1) shared.before[warp] = before;
    SyncThreads();
    int in_round = 0;
    for (int w = 0; w < kGroupWarps; ++w) {
      if (w == warp && is_mine) p.order[position + in_round + before - 1] = slot;
      in_round += shared.before[w];
    }
    position += in_round;
    SyncThreads();
  }
}

// ---- The weighted sum: a thread has eight columns of a row.

constexpr int kCombineThreads = 128;

// Bytes: 2 top_k + 2 per element of the output.
__global__ void __launch_bounds__(kCombineThreads)
    CombineExpertsKernel(const __grid_constant__ CombineExpertsParams p) {
  const int64_t token = blockIdx.x;
  const int i = static_cast<int>(blockIdx.y * kCombineThreads + threadIdx.x) * kVectorElements;
  WaitForPrevious();
  LetNextStart();
  if (i >= p.hidden) return;
  Vector8 sum = {};
  for (int slot = 0; slot < p.top_k; ++slot) {
    const int64_t row = token * p.top_k + slot;
    const float gate = p.gates[row];
    const Vector8 x = Load8<true>(p.rows + row * p.rows_stride + i, kVectorElements);
    for (int e = 0; e < kVectorElements; ++e) sum.at[e] += gate * x.at[e];
  }
  Store8<true>(p.out + token * p.out_stride + i, kVectorElements, sum);
}

}  // namespace

cudaError_t LaunchRouter(const RouterParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  return Launch({.grid = dim3((p.num_experts + kRouterExperts - 1) / kRouterExperts,
                              (p.num_tokens + kRouterRows - 1) / kRouterRows),
                 .block = dim3(kRouterWarps * kWarpSize),
                 .shared_bytes = kRouterWarps * kRouterResults * static_cast<int>(sizeof(float)),
                 .stream = stream,
                 .overlaps_previous = true},
                RouterKernel, p);
}

cudaError_t LaunchChooseExperts(const ChooseExpertsParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  return Launch({.grid = dim3((p.num_tokens + kChooseWarps - 1) / kChooseWarps),
                 .block = dim3(kChooseWarps * kWarpSize),
                 .stream = stream,
                 .overlaps_previous = true},
                ChooseExpertsKernel, p);
}

cudaError_t LaunchGroupSlots(const GroupSlotsParams& p, cudaStream_t stream) {
  if (p.num_slots == 0) return cudaSuccess;
  return Launch({.grid = dim3(p.num_experts),
                 .block = dim3(kGroupThreads),
                 .shared_bytes = static_cast<int>(sizeof(GroupShared)),
                 .stream = stream,
                 .overlaps_previous = true},
                GroupSlotsKernel, p, ExpertTileRows(p.num_slots, p.num_experts));
}

cudaError_t LaunchCombineExperts(const CombineExpertsParams& p, cudaStream_t stream) {
  if (p.num_tokens == 0) return cudaSuccess;
  const int vectors = p.hidden / kVectorElements;
  return Launch({.grid = dim3(p.num_tokens, (vectors + kCombineThreads - 1) / kCombineThreads),
                 .block = dim3(kCombineThreads),
                 .stream = stream,
                 .overlaps_previous = true},
                CombineExpertsKernel, p);
}

}  // namespace mea::cuda
