#pragma once

#include <array>
#include <cstdint>

#include "kernels/cpu/attention.h"

namespace mea::cpu {

// Virtual heads whose keys or values are composed together before their scores: a multiple of the
// register blocks' number.
inline constexpr int kMaxComposed = 2 * kComposeUnit;

// Heads that share one pass over a block if none is composed into scratch memory.
inline constexpr int kMaxTogether = 32;

// The heads of an item, for keys or for values, by their source (HeadSources). Numbers count from
// the item's first head.
struct HeadsBySource {
  int num_mixed = 0;
  int num_plain = 0;
  int first_mix = 0;  // index of the first mixed head among the item's mixed heads
  std::array<int, kMaxTogether> mixed;
  std::array<int, kMaxTogether> plain;
  std::array<int, kMaxTogether> component;  // of each plain head
};

// Tokens of a block of the cache, relative to the block.
struct TokenRange {
  int begin;
  int end;
  bool empty() const { return begin >= end; }
};

// Heads [begin, end) of an item over one block of 64 positions, and the rows of each that see any
// of it.
struct HeadBatch {
  int64_t block_begin;
  TokenRange seen;  // by any row
  int begin, end;
  int first_token, last_token;  // of the item
  int first_row, num_rows;      // of a head
};

// The work on one item: its sizes, and its memory, carved from the scratch memory of the thread
// that runs it. Rows are ordered [virtual head][token][query head of the group].
struct AttentionWork {
  AttentionWork(const PagedAttentionArgs& args, const HeadShape& shape, const AttentionItem& item,
                float* scratch);
  static int64_t ScratchFloats(const PagedAttentionArgs& args, const HeadShape& shape,
                               const AttentionItem& item);

  int num_heads() const { return item.head_end - item.head_begin; }
  int64_t TokensLeftOnPage(int64_t position) const {
    return args.kv.page_size - position % args.kv.page_size;
  }
  bool mixes_keys() const { return !args.mix.key.empty(); }
  bool mixes_values() const { return !args.mix.value.empty(); }
  // Heads [begin, end) of the item, at most kMaxTogether.
  HeadsBySource KeyHeads(int begin, int end) const {
    return BySource(item.sources->keys, begin, end);
  }
  HeadsBySource ValueHeads(int begin, int end) const {
    return BySource(item.sources->values, begin, end);
  }
  // The part of the block of 64 positions from block_begin on that any row of the item's given
  // token sees; and the part that row `j` of the item's given head sees.
  TokenRange Visible(int token, int64_t block_begin) const {
    return VisibleFrom(token, block_begin, 0, shape.max_lag());
  }
  TokenRange VisibleToRow(int token, int head, int j, int64_t block_begin) const {
    const int lag = shape.Lag(item.head_begin + head, j);
    return VisibleFrom(token, block_begin, lag, lag);
  }

  const PagedAttentionArgs& args;
  const HeadShape shape;
  const AttentionItem& item;
  // The first component that is read for keys and values, and their number: all if heads are mixed
  // from them, else the ones that the item's heads equal.
  int first_key() const { return mixes_keys() ? 0 : item.head_begin; }
  int first_value() const { return mixes_values() ? 0 : item.head_begin; }
  int num_keys() const { return mixes_keys() ? args.kv.spec.key_heads : num_heads(); }
  int num_values() const { return mixes_values() ? args.kv.spec.value_heads : num_heads(); }

  const int head_dim;
  const int group;       // query rows of one virtual head, for a token
  const int num_tokens;  // query tokens
  const int group_rows;  // rows of one virtual head
  const int num_rows;
  const int64_t record_floats;
  const int64_t first_position;  // of the item's first token
  const int32_t* const pages;
  float* const queries;   // [num_rows][head_dim], scaled
  float* const part;      // [num_rows] records of the current split
  float* const total;     // [num_rows] records of the splits before it
  float* const scores;    // [heads of a batch][group_rows][kBlockTokens]
  float* const composed;  // [heads of a batch] keys or values of the block
  // Where the format has any: [num_keys or num_values][KvHeadScales][kBlockTokens]
  float* const key_scales;
  float* const value_scales;
  float* const key_mix;    // [mixed heads of the item][key_heads]
  float* const value_mix;  // [mixed heads of the item][value_heads]
  float* const rotated;    // of keys with a bias: [group_rows][head_dim]
  float* const
      query_sums;  // of the elements of each row of queries, for keys in 4 bits: [num_rows]

 private:
  HeadsBySource BySource(const std::vector<int32_t>& sources, int begin, int end) const;
  // From the window's begin for a row that lags so far to the end for one that does.
  TokenRange VisibleFrom(int token, int64_t block_begin, int end_lag, int begin_lag) const;
};

}  // namespace mea::cpu
