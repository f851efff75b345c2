#pragma once

#include "kernels/cuda/attention/head_block.h"
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/attention/units.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// What the units of a block read, slab by slab: for every tile of kTokens tokens of a unit its key
// components, then its value components. Page numbers are fetched one tile ahead.
template <int head_dim, int kTokens>
class SlabStream {
 public:
  static constexpr int kTile = SlabLayout::kTileTokens;
  static constexpr int kSubTiles = kTokens / kTile;

  // Stands before the first slab.
  __device__ SlabStream(const DecodeParams& params, const Units& units)
      : params_(params), units_(units), unit_(units.begin) {
    if (AtEnd()) return;
    upcoming_ = ItemOf(unit_);
    EnterUnit();
    LookUp(item_, token_, pages_);
    LookUpNext();
  }

  __device__ bool AtEnd() const { return unit_ >= units_.end; }

  __device__ bool is_key() const { return slab_ < NumKeys(); }

  // Tokens [token, token + 64) of the slab's sub-tile i, of which those in valid() count.
  __device__ const Bf16* tile(int i) const {
    const AttentionParams& p = params_.attention;
    const int head = first_component_ + (is_key() ? slab_ : slab_ - NumKeys());
    return (is_key() ? p.keys : p.values) +
           p.layout().SlabBegin(pages_[i], is_key() ? p.key_heads : p.value_heads, head) +
           token(i) % p.page_size * head_dim;
  }
  // The component that the slab is of, and the page of sub-tile i.
  __device__ int component() const {
    return first_component_ + (is_key() ? slab_ : slab_ - NumKeys());
  }
  __device__ int page(int i) const { return pages_[i]; }
  __device__ int token(int i) const { return token_ + i * kTile; }
  __device__ TokenRange valid() const { return {item_.begin, item_.end}; }

  __device__ void Next() {
    if (++slab_ < NumKeys() + NumValues()) return;
    slab_ = 0;
    token_ += kTokens;
    if (token_ >= item_.end) {
      ++unit_;
      if (AtEnd()) return;
      EnterUnit();
    }
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i) pages_[i] = next_pages_[i];
    LookUpNext();
  }

 private:
  // What is needed of a WorkItem.
  struct Item {
    int seq;
    int begin;
    int end;
  };

  __device__ int NumKeys() const {
    return params_.attention.is_plain() ? 1 : params_.attention.key_heads;
  }
  __device__ int NumValues() const {
    return params_.attention.is_plain() ? 1 : params_.attention.value_heads;
  }
  __device__ Item ItemOf(int unit) const {
    const WorkItem item = params_.list.items[unit];
    return {item.seq, item.begin, item.end};
  }

  __device__ void EnterUnit() {
    item_ = upcoming_;
    token_ = item_.begin / kTile * kTile;
    first_component_ = HeadBlock::At(params_.attention, units_.part).key_begin;
    if (unit_ + 1 < units_.end) upcoming_ = ItemOf(unit_ + 1);
  }

  // The pages of a tile. Entries after the item's tokens are not read.
  __device__ void LookUp(const Item& item, int first, int (&pages)[kSubTiles]) const {
    const AttentionParams& p = params_.attention;
    const int32_t* of_seq = p.page_table + int64_t{item.seq} * p.page_table_stride;
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i) {
      const int t = first + i * kTile;
      pages[i] = t < item.end ? of_seq[t / p.page_size] : 0;
    }
  }
  __device__ void LookUpNext() {
    if (token_ + kTokens < item_.end) {
      LookUp(item_, token_ + kTokens, next_pages_);
    } else if (unit_ + 1 < units_.end) {
      LookUp(upcoming_, upcoming_.begin / kTile * kTile, next_pages_);
    }
  }

  const DecodeParams& params_;
  const Units& units_;
  int unit_;
  int slab_ = 0;  // of the tile
  int token_ = 0;
  int first_component_ = 0;
  Item item_ = {};
  Item upcoming_ = {};  // of the next unit
  int pages_[kSubTiles] = {};
  int next_pages_[kSubTiles] = {};
};

}  // namespace mea::cuda
