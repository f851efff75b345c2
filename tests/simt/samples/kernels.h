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

}  // namespace mea::samples
