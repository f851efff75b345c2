#pragma once

// Kernels whose results are known, to test the emulator and the device headers with.

#include <cuda_runtime_api.h>

#include "kernels/dtype.h"

namespace mea::samples {

struct SumParams {
  const float* x;  // [rows, columns], columns a multiple of 4
  float* sum;      // [rows]
  int rows;
  int columns;
};
// One block per row: vector loads, shuffles, shared memory, SyncThreads.
cudaError_t LaunchRowSum(const SumParams& params, cudaStream_t stream);

struct GemmParams {
  const Bf16* a;  // [m, k]
  const Bf16* b;  // [n, k]
  float* c;       // [m, n] = a b^T
  int m, n, k;    // multiples of 64 for the tiled kernels
};
// One thread per element.
cudaError_t LaunchNaiveGemm(const GemmParams& params, cudaStream_t stream);
// cp.async into a ring of swizzled tiles, ldmatrix, mma.
cudaError_t LaunchMmaGemm(const GemmParams& params, cudaStream_t stream);

// Where element (row, column) of a [rows, 64 * n] matrix lies when it is cut into tiles of 64 x 64,
// each the image that BulkCopy brings to shared memory: rows of 128 bytes, granules swizzled. Tiles
// of one band of 64 rows follow one another.
__host__ __device__ constexpr int64_t TiledIndex(int64_t row, int64_t column, int64_t columns) {
  const int64_t tile = row / 64 * (columns / 64) + column / 64;
  const int64_t granule = column % 64 / 8 ^ row % 8;
  return tile * 64 * 64 + row % 64 * 64 + granule * 8 + column % 8;
}

// Bulk copies into a ring guarded by mbarriers, one producer warp, wgmma by four consumer warps.
// Both a and b are tiled as above; m a multiple of 64, n of 128.
cudaError_t LaunchWgmmaGemm(const GemmParams& params, cudaStream_t stream);
// c = a b with b [k, n], tiled; a plain [m, k], read into registers.
cudaError_t LaunchWgmmaRegisterGemm(const GemmParams& params, cudaStream_t stream);

}  // namespace mea::samples
