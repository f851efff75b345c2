#pragma once

// Sixteen rows of a weight matrix on their way from memory to the tensor core, without shared
// memory: kernels/cuda/README.md, "Small products". Of 32 elements of k a lane loads 16 bytes of
// rows g and g + 8 and feeds them to two products as if they were columns 2t, 2t+1, 2t+8, 2t+9; x
// is read in the same order, so that the permutation of k cancels.

#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

inline constexpr int kSlice = 32;  // of k

// Element 0 of a lane's eight in a slice, and its row of the tile.
struct SliceLane {
  int g = static_cast<int>(threadIdx.x % kWarpSize) / 4;
  int t = static_cast<int>(threadIdx.x % 4);
  int k = t * 8;
};

struct WeightSlice {
  uint4 low;   // row g
  uint4 high;  // row g + 8
};

// The sixteen rows from `first` on of w [num_rows, k]; rows beyond the last repeat it.
struct WeightRows {
  const Bf16* low;
  const Bf16* high;

  __device__ WeightRows(const Bf16* w, int first, int num_rows, int k, SliceLane lane) {
    const int row = first + lane.g;
    low = w + static_cast<int64_t>(row < num_rows ? row : num_rows - 1) * k;
    high = w + static_cast<int64_t>(row + 8 < num_rows ? row + 8 : num_rows - 1) * k;
  }

  // The lane's eight elements from `at` on. From `end` on the last ones, where x is zero: a load
  // under a condition would be followed by moves, which wait for it.
  __device__ WeightSlice Load(int at, int end) const {
    const int inside = at < end ? at : end - 8;
    return {LoadStreaming128(low + inside), LoadStreaming128(high + inside)};
  }
};

// sums [16 rows of w, 8 rows of x] += w x^T over a slice; lane g * 4 + t has x's row g.
__device__ __forceinline__ void MultiplySlice(const WeightSlice& w, uint4 x, float (&sums)[4]) {
  const uint32_t first[4] = {w.low.x, w.high.x, w.low.y, w.high.y};
  const uint32_t second[4] = {w.low.z, w.high.z, w.low.w, w.high.w};
  MmaBf16(sums, first, x.x, x.y);
  MmaBf16(sums, second, x.z, x.w);
}

}  // namespace mea::cuda
