#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace mea::cuda {

// Decode attention cuts every row (one query position, all its heads) into items of its visible
// tokens, and the items of all rows are dealt to persistent blocks. The list is made on the device
// from the lengths alone, so that a graph serves any lengths.
//
// An item has `parts`, blocks of heads that read different slabs. The blocks form columns of
// `parts` blocks: a column has a run of items, and each of its blocks one part of them.

// Tokens [begin, end) of a sequence.
struct TokenRange {
  int begin;
  int end;
  __host__ __device__ constexpr int size() const { return end - begin; }
};

// What query row `row` of a sequence sees; its last query row is q_end - 1 and it has kv_len cached
// tokens. Empty if kv_len is 0: a padded row.
__host__ __device__ constexpr TokenRange VisibleTokens(int kv_len, int q_end, int row, int window) {
  if (kv_len <= 0) return {0, 0};
  const int end = kv_len - (q_end - 1 - row);
  return {window > 0 && end > window ? end - window : 0, end};
}

// Tokens of one split of a row that sees `num_visible`: a multiple of 64. A list without room for
// all splits doubles them, see BuildWorkList.
__host__ __device__ constexpr int SplitTokens(int num_visible) {
  if (num_visible <= 8192) return 256;
  return num_visible <= 32768 ? 512 : 1024;
}

// The splits of one row. Boundaries are multiples of SplitTokens counted from token 0 and, unless
// they were doubled, depend only on the row: in every batch its sums are formed in the same order.
struct RowSplits {
  TokenRange visible;
  int split_tokens;

  __host__ __device__ explicit constexpr RowSplits(TokenRange tokens, int doublings = 0)
      : visible(tokens), split_tokens(SplitTokens(tokens.size()) << doublings) {}

  __host__ __device__ constexpr int count() const {
    if (visible.size() <= 0) return 0;
    return (visible.end - 1) / split_tokens - visible.begin / split_tokens + 1;
  }
  __host__ __device__ constexpr TokenRange split(int i) const {
    const int begin = (visible.begin / split_tokens + i) * split_tokens;
    const int end = begin + split_tokens;
    return {begin > visible.begin ? begin : visible.begin, end < visible.end ? end : visible.end};
  }
};

// The most splits of a row that sees up to `max_visible` tokens, at any alignment.
constexpr int MaxSplits(int max_visible) {
  constexpr int kSteps[] = {8192, 32768};
  int most = (max_visible + SplitTokens(max_visible) - 1) / SplitTokens(max_visible);
  for (const int step : kSteps) {
    const int visible = step < max_visible ? step : max_visible;
    const int splits = (visible + SplitTokens(visible) - 1) / SplitTokens(visible);
    most = splits > most ? splits : most;
  }
  return most + 1;
}

// Tokens [begin, end) of those that `row` of sequence `seq` sees. Its index in the list is also the
// index of its partial result.
struct WorkItem {
  int row;
  int seq;
  int begin;
  int end;
};

// The items of a row. kNotDecoded: a row of a long chunk, which other kernels attend.
struct RowItems {
  static constexpr int kNotDecoded = -1;
  int first;
  int count;
};

// How rows are cut. Costs are sixteenths of what a tile of 64 tokens of one part costs.
struct SplitRule {
  // By SplitTokens: a row's sums do not depend on its batch. Otherwise columns get equal shares,
  // and rows are cut where shares end: at most one item for each row and one for each column.
  bool is_invariant = true;
  int item_cost = 16;   // of starting an item and writing it out
  int least_tiles = 1;  // of a piece of a row that is cut where a share ends

  bool operator==(const SplitRule&) const = default;
};
inline constexpr int kTileCost = 16;

// For tiles whose slabs have so many bytes in a part.
constexpr SplitRule SharesOf(int64_t tile_bytes) {
  constexpr int64_t kItemBytes = 24 << 10;   // what a block could read meanwhile
  constexpr int64_t kLeastBytes = 64 << 10;  // worth an item
  const int64_t item_cost = (kTileCost * kItemBytes + tile_bytes / 2) / tile_bytes;
  const int64_t least_tiles = (kLeastBytes + tile_bytes - 1) / tile_bytes;
  return {.is_invariant = false,
          .item_cost = static_cast<int>(item_cost > 1 ? item_cost : 1),
          .least_tiles = static_cast<int>(least_tiles)};
}

// Of `num_blocks` blocks, rather a few less.
constexpr int NumColumns(int num_blocks, int parts) {
  return parts < num_blocks ? num_blocks / parts : 1;
}

// Device memory of a list.
struct WorkList {
  WorkItem* items;    // [max_items], in the order of rows and of tokens
  int max_items;      // at least one for each row and, unless the rule is invariant, column
  RowItems* rows;     // [max_rows]
  int* row_costs;     // [max_rows]: cost of the rows before this one
  int* column_begin;  // [num_columns + 1]: the first item of a column
  int num_columns;
};

struct WorkListParams {
  const int32_t* q_offsets;  // [num_seqs + 1], prefix sums of query counts
  const int32_t* kv_lens;    // [num_seqs], cached tokens, the new ones included
  int num_seqs = 0;
  int row_begin = 0;  // the list holds the splits of rows [row_begin, row_end)
  int row_end = 0;
  int window = 0;       // as in PagedAttentionArgs
  int max_queries = 0;  // rows of sequences with more query rows than this have no items
  SplitRule rule;
  WorkList list;
};

// Fills params.list. If the rows have more invariant splits than it has room for, as where many
// long sequences share a prefix, all splits are doubled until they fit: then a row's sums do depend
// on its batch.
cudaError_t LaunchBuildWorkList(const WorkListParams& params, cudaStream_t stream);

}  // namespace mea::cuda
