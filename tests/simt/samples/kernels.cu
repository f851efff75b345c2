#include "tests/simt/samples/kernels.h"

#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/simt.h"

namespace mea::samples {
namespace {

using namespace cuda;

constexpr int kSumThreads = 128;

__global__ void RowSum(const __grid_constant__ SumParams p) {
  const int row = static_cast<int>(blockIdx.x);
  const float* x = p.x + static_cast<int64_t>(row) * p.columns;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < p.columns; i += kSumThreads * 4) {
    const uint4 v = LoadGlobal128(x + i);
    sum += __builtin_bit_cast(float, v.x) + __builtin_bit_cast(float, v.y) +
           __builtin_bit_cast(float, v.z) + __builtin_bit_cast(float, v.w);
  }
  for (int mask = 16; mask > 0; mask /= 2) sum += ShflXor(sum, mask);
  float* per_warp = reinterpret_cast<float*>(DynamicShared());  // [kSumThreads / 32]
  if (threadIdx.x % kWarpSize == 0) per_warp[threadIdx.x / kWarpSize] = sum;
  SyncThreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (int w = 0; w < kSumThreads / kWarpSize; ++w) total += per_warp[w];
    p.sum[row] = total;
  }
}

__global__ void NaiveGemm(const __grid_constant__ GemmParams p) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int m = static_cast<int>(blockIdx.y);
  if (n >= p.n) return;
  float sum = 0;
  for (int k = 0; k < p.k; ++k) {
    sum += Widen(p.a[static_cast<int64_t>(m) * p.k + k]) *
           Widen(p.b[static_cast<int64_t>(n) * p.k + k]);
  }
  p.c[static_cast<int64_t>(m) * p.n + n] = sum;
}

// A tile is 64 rows of 64 elements = 128 bytes, its 16-byte granules swizzled.
constexpr int kTile = 64;
constexpr int kTileBytes = kTile * 128;
constexpr int kStages = 3;
constexpr int kGemmThreads = 128;

__device__ std::byte* Granule(std::byte* tile, int row, int granule) {
  return tile + row * 128 + ((granule ^ (row & 7)) << 4);
}

// Rows row0.. and columns k0.. of a [rows, k] matrix.
__device__ void LoadTile(std::byte* tile, const Bf16* matrix, int row0, int k, int k0) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * 8; i += kGemmThreads) {
    const int row = i / 8, granule = i % 8;
    CopyAsync16(Granule(tile, row, granule),
                matrix + static_cast<int64_t>(row0 + row) * k + k0 + granule * 8);
  }
}

// Each warp computes 16 rows of a 64 x 64 tile of C.
__global__ void __launch_bounds__(kGemmThreads) MmaGemm(const __grid_constant__ GemmParams p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kTile;
  const int num_steps = p.k / kTile;
  std::byte* ring = DynamicShared();
  const auto a_tile = [&](int step) { return ring + step % kStages * 2 * kTileBytes; };
  const auto b_tile = [&](int step) { return a_tile(step) + kTileBytes; };
  const auto load = [&](int step) {
    if (step < num_steps) {
      LoadTile(a_tile(step), p.a, m0, p.k, step * kTile);
      LoadTile(b_tile(step), p.b, n0, p.k, step * kTile);
    }
    CommitCopies();
  };
  float d[8][4] = {};
  for (int step = 0; step < kStages - 1; ++step) load(step);
  for (int step = 0; step < num_steps; ++step) {
    WaitCopies<kStages - 2>();
    SyncThreads();
    load(step + kStages - 1);
    for (int kk = 0; kk < kTile / 16; ++kk) {
      uint32_t a[4], b[4];
      LdMatrix4(a, Granule(a_tile(step), warp * 16 + lane % 16, kk * 2 + lane / 16));
      for (int j = 0; j < 4; ++j) {
        LdMatrix4(b,
                  Granule(b_tile(step), j * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
        MmaBf16(d[2 * j], a, b[0], b[1]);
        MmaBf16(d[2 * j + 1], a, b[2], b[3]);
      }
    }
  }
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int row = m0 + warp * 16 + lane / 4 + i / 2 * 8;
      const int column = n0 + j * 8 + lane % 4 * 2 + i % 2;
      p.c[static_cast<int64_t>(row) * p.n + column] = d[j][i];
    }
  }
}

}  // namespace

cudaError_t LaunchRowSum(const SumParams& params, cudaStream_t stream) {
  return Launch({.grid = dim3(static_cast<unsigned>(params.rows)),
                 .block = kSumThreads,
                 .shared_bytes = kSumThreads / kWarpSize * 4,
                 .stream = stream},
                RowSum, params);
}

cudaError_t LaunchNaiveGemm(const GemmParams& params, cudaStream_t stream) {
  constexpr unsigned kThreads = 64;
  return Launch({.grid = dim3((static_cast<unsigned>(params.n) + kThreads - 1) / kThreads,
                              static_cast<unsigned>(params.m)),
                 .block = kThreads,
                 .stream = stream},
                NaiveGemm, params);
}

cudaError_t LaunchMmaGemm(const GemmParams& params, cudaStream_t stream) {
  return Launch({.grid = dim3(static_cast<unsigned>(params.n / kTile),
                              static_cast<unsigned>(params.m / kTile)),
                 .block = kGemmThreads,
                 .shared_bytes = kStages * 2 * kTileBytes,
                 .stream = stream},
                MmaGemm, params);
}

}  // namespace mea::samples
