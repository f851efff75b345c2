#pragma once

#include "kernels/cuda/attention/mma_tile.h"
#include "kernels/cuda/attention/prefill.h"
#include "kernels/cuda/attention/slot_ring.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// A block of prefill_wgmma.cu: warpgroup 0 is the producer, each of the others a consumer of 64
// rows. Between them is a ring of slots in shared memory, each keys or values of 128 tokens as
// [head_dim / 64 chunks][128 tokens][64 elements], granules swizzled as in SlabLayout: the chunks
// of two tiles are adjacent.
template <int head_dim>
struct PrefillShape {
  static constexpr int kGroupWarps = 4;
  static constexpr int kGroupThreads = kGroupWarps * kWarpSize;  // a warpgroup
  static constexpr int kGroupRows = 64;
  static constexpr int kConsumers = head_dim == 64 ? 3 : 2;
  static constexpr int kThreads = (1 + kConsumers) * kGroupThreads;
  static constexpr int kRows = kConsumers * kGroupRows;
  // Of a thread; they start with 65536 / kThreads each, rounded down to a multiple of 8.
  static constexpr int kProducerRegisters = head_dim == 64 ? 32 : 40;
  static constexpr int kConsumerRegisters = head_dim == 64 ? 160 : 232;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <=
                    65536 / kThreads / 8 * 8 * (1 + kConsumers),
                "setmaxnreg would wait for ever");

  static constexpr int kTokens = 2 * SlabLayout::kTileTokens;           // of a slot
  static constexpr int kScores = kGroupRows * kTokens / kGroupThreads;  // of a lane
  static constexpr int kChunks = head_dim / SlabLayout::kChunkElements;
  static constexpr int kChunkBytes = kTokens * 128;
  static constexpr int kSlotBytes = kChunks * kChunkBytes;
  static constexpr int kSlots = 6;
  using Slot = cuda::Slot<kSlots>;
  using Barriers = SlotBarriers<kSlots>;

  // A consumer's queries, likewise.
  static constexpr int kQueryChunkBytes = kGroupRows * 128;
  static constexpr int kQueryBytes = kChunks * kQueryChunkBytes;

  // Shared memory: ring, queries, barriers of the ring, barriers by which consumers issue in order.
  static constexpr int kQueriesBegin = kSlots * kSlotBytes;
  static constexpr int kBarriersBegin = kQueriesBegin + kConsumers * kQueryBytes;
  static constexpr int kIssueBegin = kBarriersBegin + Barriers::kBytes;
  static constexpr int kSharedBytes = kIssueBegin + kConsumers * static_cast<int>(sizeof(MBarrier));
  static_assert(kSharedBytes <= 227 << 10);

  __device__ static std::byte* Memory(Slot slot) {
    return DynamicShared() + slot.index * kSlotBytes;
  }
  __device__ static Barriers RingBarriers() { return Barriers(DynamicShared() + kBarriersBegin); }
  __device__ static MBarrier* MayIssue(int consumer) {
    return reinterpret_cast<MBarrier*>(DynamicShared() + kIssueBegin) + consumer;
  }
};

// What a block does.
struct PrefillWork {
  const PrefillParams& params;
  int g;              // virtual head
  int first_row;      // of its rows
  TokenRange tokens;  // that any of them sees, from a multiple of kTokens on
};

// One warp: fills slots in the order in which the consumers read them, K0 K1 V0 K2 V1 ... Vn.
template <int head_dim>
class PrefillProducer {
 public:
  __device__ explicit PrefillProducer(const PrefillWork& work)
      : params_(work.params),
        g_(work.g),
        tokens_(work.tokens),
        seen_{VisibleTokens(params_.kv_len, params_.q_len, 0, params_.attention.window).begin,
              params_.kv_len},
        lane_(static_cast<int>(threadIdx.x) % kWarpSize) {}

  __device__ void Run() {
    Fill(params_.keys, tokens_.begin, Slabs::kKeys);
    int token = tokens_.begin;
    for (; token + S::kTokens < tokens_.end; token += S::kTokens) {
      Fill(params_.keys, token + S::kTokens, Slabs::kKeys);
      Fill(params_.values, token, Slabs::kValues);
    }
    Fill(params_.values, token, Slabs::kValues);
  }

 private:
  using S = PrefillShape<head_dim>;
  static constexpr int kTile = SlabLayout::kTileTokens;
  enum class Slabs { kKeys, kValues };

  // Tokens [token, token + kTokens) into the next slot. Tokens that no row of the chunk sees may
  // hold anything. They are not copied and their pages are not looked up: their scores are masked,
  // and their values, which meet weights of zero, are set to zero.
  __device__ void Fill(const HeadSlabs& source, int token, Slabs kind) {
    const TokenRange rows = {seen_.begin > token ? seen_.begin - token : 0,
                             seen_.end - token < S::kTokens ? seen_.end - token : S::kTokens};
    TokenRange parts[2];  // of the tiles
    const std::byte* tiles[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int first = token + i * kTile;
      parts[i] = {rows.begin > i * kTile ? rows.begin : i * kTile,
                  rows.end < (i + 1) * kTile ? rows.end : (i + 1) * kTile};
      tiles[i] = nullptr;
      if (parts[i].size() <= 0) continue;
      tiles[i] = reinterpret_cast<const std::byte*>(
          source.Tile(source.PageOf(first), first, params_.attention.kv_heads, g_, head_dim));
    }
    barriers_.WaitEmpty(slot_);
    if (kind == Slabs::kValues && rows.size() < S::kTokens) ZeroOthers(rows);
    if (lane_ == 0) {
      MBarrier* full = barriers_.Full(slot_);
      ArriveExpect(full, rows.size() * S::kChunks * 128);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (parts[i].size() <= 0) continue;
#pragma unroll
        for (int chunk = 0; chunk < S::kChunks; ++chunk) {
          BulkCopy(S::Memory(slot_) + chunk * S::kChunkBytes + parts[i].begin * 128,
                   tiles[i] + chunk * kChunkBytes + (parts[i].begin - i * kTile) * 128,
                   parts[i].size() * 128, full);
        }
      }
    }
    SyncWarp();
    slot_.Next();
  }

  __device__ void ZeroOthers(TokenRange rows) const {
    constexpr int kGranules = 8;  // of a row in a chunk
#pragma unroll 1
    for (int i = lane_; i < S::kChunks * S::kTokens * kGranules; i += kWarpSize) {
      const int row = i / kGranules % S::kTokens;
      if (row >= rows.begin && row < rows.end) continue;
      reinterpret_cast<uint4*>(S::Memory(slot_))[i] = {0, 0, 0, 0};
    }
    FenceProxyAsync();
    SyncWarp();
  }

  const PrefillParams& params_;
  const int g_;
  const TokenRange tokens_;
  const TokenRange seen_;  // by any row of the chunk
  const int lane_;
  const typename S::Barriers barriers_ = S::RingBarriers();
  typename S::Slot slot_;
};

}  // namespace mea::cuda
