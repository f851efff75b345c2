#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"
#include "kernels/cuda/device/wgmma.h"
#include "tests/simt/samples/kernels.h"

namespace mea::samples {
namespace {

using namespace cuda;

constexpr int kTile = 64;
constexpr int kTileBytes = kTile * 128;
constexpr int kColumns = 128;  // of C per block
constexpr int kStages = 3;
constexpr int kConsumerThreads = 128;  // one warpgroup
constexpr int kThreads = kConsumerThreads + kWarpSize;

// Shared memory: the ring, each slot an A tile and two B tiles, then the barriers.
constexpr int kSlotBytes = 3 * kTileBytes;
constexpr int kSharedBytes = kStages * kSlotBytes + 2 * kStages * 8;

struct Ring {
  std::byte* slots;
  MBarrier* full;   // [kStages], one arrival
  MBarrier* empty;  // [kStages], one arrival per consumer warp
};

__device__ Ring MakeRing() {
  std::byte* shared = DynamicShared();
  auto* barriers = reinterpret_cast<MBarrier*>(shared + kStages * kSlotBytes);
  const Ring ring = {shared, barriers, barriers + kStages};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      Init(ring.full + i, 1);
      Init(ring.empty + i, kConsumerThreads / kWarpSize);
    }
    FenceInit();
  }
  SyncThreads();
  return ring;
}

__device__ int Parity(int step) { return step / kStages % 2; }

// By one thread: the tiles of step `step` into their slot. `a` is null when A is not copied.
__device__ void Produce(const Ring& ring, int step, const Bf16* a, const Bf16* b0, const Bf16* b1) {
  const int slot = step % kStages;
  std::byte* to = ring.slots + slot * kSlotBytes;
  MBarrier* full = ring.full + slot;
  Wait(ring.empty + slot, Parity(step) ^ 1);
  ArriveExpect(full, (a != nullptr ? 3 : 2) * kTileBytes);
  if (a != nullptr) BulkCopy(to, a, kTileBytes, full);
  BulkCopy(to + kTileBytes, b0, kTileBytes, full, CachePolicy::kEvictFirst);
  BulkCopy(to + 2 * kTileBytes, b1, kTileBytes, full, CachePolicy::kEvictFirst);
}

__device__ void StoreC(const GemmParams& p, int m0, int n0, const float (&d)[kColumns / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = m0 + warp * 16 + lane / 4 + i % 4 / 2 * 8;
    const int column = n0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
    p.c[static_cast<int64_t>(row) * p.n + column] = d[i];
  }
}

// Gives back the slot of an earlier step: every consumer warp has read it.
__device__ void Recycle(const Ring& ring, int step) {
  if (threadIdx.x % kWarpSize == 0) Arrive(ring.empty + step % kStages);
}

__global__ void __launch_bounds__(kThreads) WgmmaGemm(const __grid_constant__ GemmParams p) {
  const Ring ring = MakeRing();
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kColumns;
  const int num_steps = p.k / kTile;
  if (threadIdx.x >= kConsumerThreads) {
    if (threadIdx.x % kWarpSize != 0) return;
    for (int step = 0; step < num_steps; ++step) {
      const int64_t k0 = static_cast<int64_t>(step) * kTile;
      Produce(ring, step, p.a + TiledIndex(m0, k0, p.k), p.b + TiledIndex(n0, k0, p.k),
              p.b + TiledIndex(n0 + kTile, k0, p.k));
    }
    return;
  }
  float d[kColumns / 2];
  for (int step = 0; step < num_steps; ++step) {
    const std::byte* slot = ring.slots + step % kStages * kSlotBytes;
    Wait(ring.full + step % kStages, Parity(step));
    const MatrixDescriptor a = Descriptor(slot, 0, 1024);
    const MatrixDescriptor b = Descriptor(slot + kTileBytes, 0, 1024);
    WgmmaFence(d);
#pragma unroll
    for (int kk = 0; kk < kTile / 16; ++kk) {
      WgmmaSS64<kColumns>(d, Advance(a, kk * 32), Advance(b, kk * 32), step + kk > 0);
    }
    WgmmaCommit();
    // One group stays under way while the next slot is waited for.
    WgmmaWait<1>();
    if (step > 0) Recycle(ring, step - 1);
  }
  WgmmaWait<0>(d);
  StoreC(p, m0, n0, d);
}

__global__ void __launch_bounds__(kThreads)
    WgmmaRegisterGemm(const __grid_constant__ GemmParams p) {
  const Ring ring = MakeRing();
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kColumns;
  const int num_steps = p.k / kTile;
  if (threadIdx.x >= kConsumerThreads) {
    if (threadIdx.x % kWarpSize != 0) return;
    for (int step = 0; step < num_steps; ++step) {
      const int64_t k0 = static_cast<int64_t>(step) * kTile;
      Produce(ring, step, nullptr, p.b + TiledIndex(k0, n0, p.n),
              p.b + TiledIndex(k0, n0 + kTile, p.n));
    }
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  float d[kColumns / 2] = {};
  for (int step = 0; step < num_steps; ++step) {
    uint32_t a[kTile / 16][4];
#pragma unroll
    for (int kk = 0; kk < kTile / 16; ++kk) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t row = m0 + warp * 16 + lane / 4 + i % 2 * 8;
        const int64_t k = step * kTile + kk * 16 + lane % 4 * 2 + i / 2 * 8;
        a[kk][i] = *reinterpret_cast<const uint32_t*>(p.a + row * p.k + k);
      }
    }
    Wait(ring.full + step % kStages, Parity(step));
    const MatrixDescriptor b =
        Descriptor(ring.slots + step % kStages * kSlotBytes + kTileBytes, kTileBytes, 1024);
    WgmmaFence(d);
#pragma unroll
    for (int kk = 0; kk < kTile / 16; ++kk) {
      WgmmaRS64<kColumns>(d, a[kk], Advance(b, kk * 2048), true);
    }
    WgmmaCommit();
    WgmmaWait<0>(d);
    Recycle(ring, step);
  }
  StoreC(p, m0, n0, d);
}

cudaError_t LaunchOn(void (*kernel)(GemmParams), const GemmParams& p, cudaStream_t stream) {
  return Launch(
      {.grid = dim3(static_cast<unsigned>(p.n / kColumns), static_cast<unsigned>(p.m / kTile)),
       .block = kThreads,
       .shared_bytes = kSharedBytes,
       .stream = stream},
      kernel, p);
}

}  // namespace

cudaError_t LaunchWgmmaGemm(const GemmParams& params, cudaStream_t stream) {
  return LaunchOn(WgmmaGemm, params, stream);
}

cudaError_t LaunchWgmmaRegisterGemm(const GemmParams& params, cudaStream_t stream) {
  return LaunchOn(WgmmaRegisterGemm, params, stream);
}

}  // namespace mea::samples
