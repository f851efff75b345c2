#pragma once

// Collective operations of a block's threads on 64-bit integers: sums, the least, where a running
// sum crosses a mark. Integers, so the result does not depend on the number of threads. Every
// thread of the block calls these and receives the same result.

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

inline constexpr int kMaxWarps = 32;

struct BlockScratch {
  uint64_t warp_values[kMaxWarps];
  uint64_t crossing_before;
  uint64_t crossing_value;
  int crossing_index;
};

__device__ __forceinline__ uint64_t Join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

__device__ __forceinline__ uint64_t ShflXor64(uint64_t value, int mask) {
  return Join(ShflXor(static_cast<uint32_t>(value), mask),
              ShflXor(static_cast<uint32_t>(value >> 32), mask));
}

__device__ __forceinline__ uint64_t ShflUp64(uint64_t value, int delta) {
  return Join(ShflUp(static_cast<uint32_t>(value), delta),
              ShflUp(static_cast<uint32_t>(value >> 32), delta));
}

__device__ __forceinline__ uint64_t WarpSum(uint64_t value) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += ShflXor64(value, mask);
  return value;
}

// Folds one value per thread; `fold` is associative and commutative.
template <class Fold>
__device__ uint64_t BlockFold(BlockScratch& scratch, uint64_t value, Fold fold) {
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value = fold(value, ShflXor64(value, mask));
  if (threadIdx.x % kWarpSize == 0) scratch.warp_values[threadIdx.x / kWarpSize] = value;
  SyncThreads();
  value = scratch.warp_values[0];
  for (unsigned warp = 1; warp < blockDim.x / kWarpSize; ++warp) {
    value = fold(value, scratch.warp_values[warp]);
  }
  SyncThreads();
  return value;
}

__device__ inline uint64_t BlockSum(BlockScratch& scratch, uint64_t value) {
  return BlockFold(scratch, value, [](uint64_t a, uint64_t b) { return a + b; });
}

__device__ inline uint64_t BlockMin(BlockScratch& scratch, uint64_t value) {
  return BlockFold(scratch, value, [](uint64_t a, uint64_t b) { return a < b ? a : b; });
}

// The first index at which values(0) + ... + values(index) reaches the mark.
struct Crossing {
  int index;
  uint64_t before;  // the sum up to there, exclusive
  uint64_t value;   // values(index)
};

// `mark` is at least 1; if it exceeds the sum of all n values, which is not 0, that sum is used
// instead.
template <class Values>
__device__ Crossing FindCrossing(BlockScratch& scratch, int n, uint64_t mark, Values values) {
  const int per_thread = (n + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int begin = static_cast<int>(threadIdx.x) * per_thread;
  const int end = begin + per_thread < n ? begin + per_thread : n;
  uint64_t sum = 0;
  for (int i = begin; i < end; ++i) sum += values(i);

  const int lane = threadIdx.x % kWarpSize;
  uint64_t inclusive = sum;
  for (int delta = 1; delta < kWarpSize; delta *= 2) {
    const uint64_t below = ShflUp64(inclusive, delta);
    if (lane >= delta) inclusive += below;
  }
  if (lane == kWarpSize - 1) scratch.warp_values[threadIdx.x / kWarpSize] = inclusive;
  SyncThreads();
  uint64_t total = 0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) {
    if (warp == threadIdx.x / kWarpSize) inclusive += total;
    total += scratch.warp_values[warp];
  }
  if (mark > total) mark = total;
  uint64_t before = inclusive - sum;
  if (before < mark && mark <= inclusive) {
    for (int i = begin; i < end; ++i) {
      const uint64_t value = values(i);
      if (before + value >= mark) {
        scratch.crossing_index = i;
        scratch.crossing_before = before;
        scratch.crossing_value = value;
        break;
      }
      before += value;
    }
  }
  SyncThreads();
  const Crossing crossing = {scratch.crossing_index, scratch.crossing_before,
                             scratch.crossing_value};
  SyncThreads();
  return crossing;
}

// Sorts list[0, n) in ascending order. `list` has room for the next power of two.
__device__ inline void BlockSort(uint64_t* list, int n) {
  int padded = 1;
  while (padded < n) padded *= 2;
  for (int i = n + static_cast<int>(threadIdx.x); i < padded; i += static_cast<int>(blockDim.x)) {
    list[i] = ~uint64_t{0};
  }
  for (int run = 2; run <= padded; run *= 2) {  // bitonic
    for (int step = run / 2; step > 0; step /= 2) {
      SyncThreads();
      for (int i = static_cast<int>(threadIdx.x); i < padded; i += static_cast<int>(blockDim.x)) {
        const int partner = i ^ step;
        if (partner < i) continue;
        const uint64_t a = list[i];
        const uint64_t b = list[partner];
        const bool ascending = (i & run) == 0;
        if ((a > b) == ascending) {
          list[i] = b;
          list[partner] = a;
        }
      }
    }
  }
  SyncThreads();
}

}  // namespace mea::cuda
