#pragma once

#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/slab_stream.h"
#include "kernels/cuda/attention/slot_ring.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// A block of decode_wgmma.cu and its shared memory: one warpgroup, 64 query heads.
template <int head_dim>
struct DecodeWgmmaShape {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kSlots = 6;
  static constexpr int kSlotBytes = 16 << 10;
  static constexpr int kTokens = kSlotBytes / (2 * head_dim);  // of a slab: 64 or 128
  static constexpr int kSubTiles = kTokens / SlabLayout::kTileTokens;
  static constexpr int kSubTileBytes = SlabLayout::kTileTokens * head_dim * 2;
  using Slot = cuda::Slot<kSlots>;
  using Barriers = SlotBarriers<kSlots>;

  // Shared memory: ring, queries, barriers.
  static constexpr int kQueriesBegin = kSlots * kSlotBytes;
  static constexpr int kQueriesBytes = HeadBlock::kMaxHeads * head_dim * 2;
  static constexpr int kBarriersBegin = kQueriesBegin + kQueriesBytes;
  static constexpr int kSharedBytes = kBarriersBegin + Barriers::kBytes;

  __device__ static std::byte* Memory(Slot slot) {
    return DynamicShared() + slot.index * kSlotBytes;
  }
  __device__ static Barriers RingBarriers() { return Barriers(DynamicShared() + kBarriersBegin); }
};

// The slabs of the block's units, in a ring that its first warp keeps filled by bulk copies. Only
// slots of the cache that hold a visible token are copied. The other rows keep what an earlier slab
// left there, perhaps another request's: scores of such keys are masked, and values, which meet
// weights of zero, are set to zero, as zero times infinity would be NaN.
template <int head_dim>
class SlabRing {
 public:
  using S = DecodeWgmmaShape<head_dim>;

  // Every thread, before the first use.
  __device__ static void Init() {
    if (threadIdx.x == 0) S::RingBarriers().Init(S::kWarps);
    SyncThreads();
  }

  __device__ SlabRing(const DecodeParams& params, const Units& units) : stream_(params, units) {
    if (threadIdx.x >= kWarpSize) return;
    for (int i = 0; i < S::kSlots; ++i) Fill();
  }

  // Waits for the next slab.
  __device__ __forceinline__ const std::byte* Wait() const {
    S::RingBarriers().WaitFull(read_);
    return S::Memory(read_);
  }

  // This warp is done with the slab. Refills the previous slot, which the other warps have released
  // by now or are about to release.
  __device__ __forceinline__ void Release() {
    if (threadIdx.x % kWarpSize == 0) S::RingBarriers().Release(read_);
    read_.Next();
    if (threadIdx.x < kWarpSize && has_released_) Fill();
    has_released_ = true;
    SyncWarp();
  }

 private:
  static constexpr int kTile = SlabLayout::kTileTokens;

  static constexpr int kChunks = head_dim / SlabLayout::kChunkElements;

  // The stream's next slab, if there is one, into the next slot: the rows of visible tokens, in
  // every chunk of 64 elements. One warp.
  __device__ void Fill() {
    if (stream_.AtEnd()) return;
    TokenRange rows[S::kSubTiles];
    int num_rows = 0;
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      const int first = stream_.token(i);
      const TokenRange valid = stream_.valid();
      rows[i] = {first < valid.begin ? valid.begin - first : 0,
                 valid.end - first < kTile ? valid.end - first : kTile};
      num_rows += rows[i].size() > 0 ? rows[i].size() : 0;
    }
    S::RingBarriers().WaitEmpty(write_);
    if (num_rows < S::kTokens && !stream_.is_key()) ZeroOthers(rows);
    if (threadIdx.x == 0) Copy(rows, num_rows);
    SyncWarp();
    write_.Next();
    stream_.Next();
  }

  __device__ void ZeroOthers(const TokenRange (&rows)[S::kSubTiles]) const {
    constexpr int kGranules = 8;  // of a row in a chunk
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      auto* tile = reinterpret_cast<uint4*>(S::Memory(write_) + i * S::kSubTileBytes);
#pragma unroll 1
      for (int g = static_cast<int>(threadIdx.x); g < S::kSubTileBytes / 16; g += kWarpSize) {
        const int row = g / kGranules % kTile;
        if (row < rows[i].begin || row >= rows[i].end) tile[g] = {0, 0, 0, 0};
      }
    }
    FenceProxyAsync();
    SyncWarp();
  }

  __device__ void Copy(const TokenRange (&rows)[S::kSubTiles], int num_rows) const {
    MBarrier* full = S::RingBarriers().Full(write_);
    ArriveExpect(full, num_rows * kChunks * 128);
#pragma unroll
    for (int i = 0; i < S::kSubTiles; ++i) {
      if (rows[i].size() <= 0) continue;
      const auto* tile = reinterpret_cast<const std::byte*>(stream_.tile(i));
      std::byte* shared = S::Memory(write_) + i * S::kSubTileBytes;
      if (rows[i].size() == kTile) {
        BulkCopy(shared, tile, S::kSubTileBytes, full, CachePolicy::kEvictFirst);
        continue;
      }
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        const int begin = chunk * kChunkBytes + rows[i].begin * 128;
        BulkCopy(shared + begin, tile + begin, rows[i].size() * 128, full,
                 CachePolicy::kEvictFirst);
      }
    }
  }

  SlabStream<head_dim, S::kTokens> stream_;  // of the slab that Fill copies next
  typename S::Slot read_;
  typename S::Slot write_;
  bool has_released_ = false;
};

}  // namespace mea::cuda
