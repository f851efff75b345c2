#pragma once

#include <cmath>

#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// RotateHadamard of kernels/int4_heads.h, in the same order, for x[d] in shared memory: by lanes
// [0, num_lanes) of a group of a warp, of which `lane` is one. All lanes of the warp come here at
// once, with the same d; nothing happens to the x of those that do not rotate.
__device__ inline void RotateHadamard(float* x, int d, int lane, int num_lanes,
                                      bool rotates = true) {
  SyncWarp();
  int n = 1;
  for (int begin = 0; begin < d; begin += n) {
    n = 1;
    while (2 * n <= d - begin) n *= 2;
    for (int half = 1; half < n; half *= 2) {
#pragma unroll 1
      for (int i = lane; rotates && i < n / 2; i += num_lanes) {
        float* first = x + begin + i / half * 2 * half + i % half;
        const float sum = first[0] + first[half];
        first[half] = first[0] - first[half];
        first[0] = sum;
      }
      SyncWarp();
    }
    const float scale = 1.0f / sqrtf(static_cast<float>(n));
#pragma unroll 1
    for (int i = lane; rotates && i < n; i += num_lanes) x[begin + i] *= scale;
    SyncWarp();
  }
}

}  // namespace mea::cuda
