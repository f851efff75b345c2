#include "kernels/cuda/attention/work_list.h"

#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

__device__ int NumTiles(TokenRange tokens) {
  constexpr int kTile = SlabLayout::kTileTokens;
  return (tokens.end + kTile - 1) / kTile - tokens.begin / kTile;
}

// The last i in [0, count) with value_of(i) <= value; value_of ascends and value_of(0) <= value.
template <class ValueOf, class T>
__device__ int LastNotAbove(ValueOf value_of, int count, T value) {
  int low = 0;
  int high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (value_of(middle) <= value ? low : high) = middle;
  }
  return low;
}

struct Row {
  int seq;
  bool is_decoded;
  TokenRange visible;
};

__device__ Row FindRow(const WorkListParams& p, int row) {
  const int seq = LastNotAbove([&p](int i) { return p.q_offsets[i]; }, p.num_seqs, row);
  const int q_begin = p.q_offsets[seq];
  const int q_end = p.q_offsets[seq + 1];
  const bool is_decoded = q_end - q_begin <= p.max_queries;
  return {seq, is_decoded,
          is_decoded ? VisibleTokens(p.kv_lens[seq], q_end, row, p.window) : TokenRange{0, 0}};
}

// Cuts every row by itself.
struct InvariantSplits {
  static constexpr bool kNeedsCosts = false;
  const SplitRule& rule;
  int doublings = 0;

  __device__ int Count(TokenRange visible, int /*begin*/) const {
    return RowSplits(visible, doublings).count();
  }
  __device__ TokenRange Item(TokenRange visible, int /*begin*/, int k) const {
    return RowSplits(visible, doublings).split(k);
  }
  __device__ int Cost(TokenRange visible) const {
    return NumTiles(visible) * kTileCost + Count(visible, 0) * rule.item_cost;
  }

  // Items of the row whose middle lies before `cost` of it. All but the first and the last are
  // full.
  __device__ int ItemsBefore(TokenRange visible, int64_t cost) const {
    const RowSplits row(visible, doublings);
    const int64_t first = NumTiles(row.split(0)) * kTileCost + rule.item_cost;
    const int64_t full = row.split_tokens / SlabLayout::kTileTokens * kTileCost + rule.item_cost;
    if (2 * cost <= first) return 0;
    const int64_t behind = cost <= first ? 0 : (cost - first + full / 2) / full;
    return behind + 1 < row.count() ? static_cast<int>(behind) + 1 : row.count();
  }
};

// What rows cost if none is cut.
struct Costs {
  static constexpr bool kNeedsCosts = false;
  const SplitRule& rule;

  __device__ int Count(TokenRange visible, int /*begin*/) const {
    return visible.size() > 0 ? 1 : 0;
  }
  __device__ int Cost(TokenRange visible) const {
    return visible.size() > 0 ? NumTiles(visible) * kTileCost + rule.item_cost : 0;
  }
};

// Cuts the rows, laid end to end by their costs, where shares end. Positions in 1/1024 of a cost.
class Shares {
 public:
  static constexpr bool kNeedsCosts = true;

  __device__ Shares(const SplitRule& rule, int64_t total_cost, int columns) : rule_(rule) {
    constexpr int kWholeTiles = 8;
    const int64_t equal = (total_cost * kUnit + columns - 1) / columns;
    const int64_t least = (rule.least_tiles * kTileCost + rule.item_cost) * kUnit;
    share_ = equal > least ? equal : least;
    // A share of two tiles takes twice as long as one of one: small shares are whole tiles.
    if (share_ >= kWholeTiles * kTileCost * kUnit) return;
    const int64_t tile = kTileCost * kUnit;
    const int64_t whole = (share_ - rule.item_cost * kUnit + tile - 1) / tile * tile;
    // The last share may be up to half a tile longer: that is not cut.
    if (whole * columns >= (total_cost - kTileCost / 2) * kUnit) share_ = whole;
  }

  __device__ int Count(TokenRange visible, int begin) const {
    return visible.size() <= 0 ? 0 : 1 + CutsOf(visible, begin).count;
  }
  __device__ TokenRange Item(TokenRange visible, int begin, int k) const {
    const Cuts cuts = CutsOf(visible, begin);
    TokenRange item = visible;
    if (k > 0) item.begin = CutAt(visible, begin, cuts.first + k - 1);
    if (k < cuts.count) item.end = CutAt(visible, begin, cuts.first + k);
    return item;
  }
  __device__ int Cost(TokenRange visible) const { return Costs{rule_}.Cost(visible); }

  // Where share i begins among the rows, and how many items of the row there are before it.
  __device__ int64_t Begin(int i) const { return i * share_ / kUnit; }
  __device__ int ItemsBefore(TokenRange visible, int begin, int i) const {
    const Cuts cuts = CutsOf(visible, begin);
    if (cuts.count == 0) {
      return Begin(i) - begin - rule_.item_cost < NumTiles(visible) * kTileCost / 2 ? 0 : 1;
    }
    if (i < cuts.first) return 0;
    return i < cuts.first + cuts.count ? i - cuts.first + 1 : cuts.count + 1;
  }

 private:
  static constexpr int64_t kUnit = 1024;

  struct Cuts {
    int first;  // the share that begins at the first of them
    int count;
  };

  // A row is cut at the tile nearest to where a share ends, unless that leaves too little of it.
  __device__ Cuts CutsOf(TokenRange visible, int begin) const {
    const int64_t tiles_begin = begin + rule_.item_cost;
    const int64_t low = tiles_begin + rule_.least_tiles * kTileCost - kTileCost / 2;
    const int64_t high =
        tiles_begin + (NumTiles(visible) - rule_.least_tiles) * kTileCost + kTileCost / 2;
    if (high <= low) return {0, 0};
    const int first = FirstAtOrAfter(low);
    return {first, FirstAtOrAfter(high) - first};
  }
  __device__ int FirstAtOrAfter(int64_t cost) const {
    return cost <= 0 ? 0 : static_cast<int>((cost * kUnit + share_ - 1) / share_);
  }
  __device__ int CutAt(TokenRange visible, int begin, int i) const {
    constexpr int kTile = SlabLayout::kTileTokens;
    const auto tiles =
        static_cast<int>((Begin(i) - begin - rule_.item_cost + kTileCost / 2) / kTileCost);
    return (visible.begin / kTile + tiles) * kTile;
  }

  const SplitRule& rule_;
  int64_t share_;
};

struct Sums {
  int items;
  int cost;
};

// Sums over the threads before this one; `total` over all. Every thread of the block calls it.
__device__ Sums ExclusiveSums(Sums own, Sums* total) {
  Sums* of_warps = reinterpret_cast<Sums*>(DynamicShared());  // [kWarps]
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  Sums sums = own;
  for (int delta = 1; delta < kWarpSize; delta *= 2) {
    const int items = ShflUp(sums.items, delta);
    const int cost = ShflUp(sums.cost, delta);
    if (lane >= delta) sums = {sums.items + items, sums.cost + cost};
  }
  SyncThreads();  // the sums of the last call have been read
  if (lane == kWarpSize - 1) of_warps[warp] = sums;
  SyncThreads();
  *total = {0, 0};
  Sums before = {sums.items - own.items, sums.cost - own.cost};
  for (int w = 0; w < kWarps; ++w) {
    const Sums s = of_warps[w];
    if (w < warp) before = {before.items + s.items, before.cost + s.cost};
    *total = {total->items + s.items, total->cost + s.cost};
  }
  return before;
}

// Calls visit(i, row, sums before it, its own) for every row; `own` gives a row's sums. Returns
// those over all rows. Every thread of the block calls it.
template <class Own, class Visit>
__device__ Sums EachRow(const WorkListParams& p, Own own, Visit visit) {
  const int num_rows = p.row_end - p.row_begin;
  Sums sums = {0, 0};
  for (int first = 0; first < num_rows; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    Row row = {0, true, {0, 0}};
    if (i < num_rows) row = FindRow(p, p.row_begin + i);
    Sums total;
    const Sums of_row = own(i, row);
    const Sums before = ExclusiveSums(of_row, &total);
    if (i < num_rows) {
      visit(i, row, Sums{sums.items + before.items, sums.cost + before.cost}, of_row);
    }
    sums = {sums.items + total.items, sums.cost + total.cost};
  }
  SyncThreads();  // what was written is seen
  return sums;
}

// The row in which a cost, of those of all rows, falls.
__device__ int RowAt(const WorkListParams& p, int64_t cost) {
  return LastNotAbove([&p](int i) { return p.list.row_costs[i]; }, p.row_end - p.row_begin, cost);
}

// Counts the rows' items; `begin` of Splits' functions is the cost of the rows before.
template <class Splits>
__device__ Sums ListRows(const WorkListParams& p, const Splits& splits) {
  return EachRow(
      p,
      [&](int i, const Row& row) {
        const int begin =
            Splits::kNeedsCosts && i < p.row_end - p.row_begin ? p.list.row_costs[i] : 0;
        return Sums{splits.Count(row.visible, begin), splits.Cost(row.visible)};
      },
      [&](int i, const Row& row, Sums before, Sums own) {
        p.list.rows[i] = {before.items, row.is_decoded ? own.items : RowItems::kNotDecoded};
        p.list.row_costs[i] = before.cost;
      });
}

template <class Splits>
__device__ void ListItems(const WorkListParams& p, const Splits& splits, int num_items) {
  const int num_rows = p.row_end - p.row_begin;
  for (int item = static_cast<int>(threadIdx.x); item < num_items; item += kThreads) {
    const int i = LastNotAbove([&p](int row) { return p.list.rows[row].first; }, num_rows, item);
    const Row row = FindRow(p, p.row_begin + i);
    const TokenRange tokens =
        splits.Item(row.visible, p.list.row_costs[i], item - p.list.rows[i].first);
    p.list.items[item] = {p.row_begin + i, row.seq, tokens.begin, tokens.end};
  }
}

// Columns have runs of items that cost about the same.
__device__ void DealInvariantSplits(const WorkListParams& p) {
  InvariantSplits splits = {p.rule};
  Sums sums = ListRows(p, splits);
  while (sums.items > p.list.max_items) {
    ++splits.doublings;
    sums = ListRows(p, splits);
  }
  ListItems(p, splits, sums.items);
  const int columns = p.list.num_columns;
  for (int column = static_cast<int>(threadIdx.x); column <= columns; column += kThreads) {
    int item = sums.items;
    if (column < columns && sums.items > 0) {
      const int64_t cost = int64_t{sums.cost} * column / columns;
      const int i = RowAt(p, cost);
      item = p.list.rows[i].first +
             splits.ItemsBefore(FindRow(p, p.row_begin + i).visible, cost - p.list.row_costs[i]);
    }
    p.list.column_begin[column] = item;
  }
}

__device__ void DealShares(const WorkListParams& p) {
  const Sums total = ListRows(p, Costs{p.rule});
  const Shares shares(p.rule, total.cost, p.list.num_columns);
  const Sums sums = ListRows(p, shares);
  ListItems(p, shares, sums.items);
  const int columns = p.list.num_columns;
  for (int column = static_cast<int>(threadIdx.x); column <= columns; column += kThreads) {
    int item = sums.items;
    if (column < columns && shares.Begin(column) < sums.cost) {
      const int i = RowAt(p, shares.Begin(column));
      item = p.list.rows[i].first +
             shares.ItemsBefore(FindRow(p, p.row_begin + i).visible, p.list.row_costs[i], column);
    }
    p.list.column_begin[column] = item;
  }
}

__global__ void __launch_bounds__(kThreads)
    BuildWorkList(const __grid_constant__ WorkListParams p) {
  WaitForPrevious();
  LetNextStart();
  if (p.rule.is_invariant) {
    DealInvariantSplits(p);
  } else {
    DealShares(p);
  }
}

}  // namespace

cudaError_t LaunchBuildWorkList(const WorkListParams& params, cudaStream_t stream) {
  return Launch({.grid = dim3(1),
                 .block = dim3(kThreads),
                 .shared_bytes = static_cast<int>(sizeof(Sums)) * kWarps,
                 .stream = stream,
                 .overlaps_previous = true},
                BuildWorkList, params);
}

}  // namespace mea::cuda
