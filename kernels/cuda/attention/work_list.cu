#include "kernels/cuda/attention/work_list.h"

#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

// Costs count tiles of 64 tokens; starting and writing out an item is worth about one more.
constexpr int kItemCost = 1;

__device__ int NumTiles(TokenRange tokens) {
  constexpr int kTile = SlabLayout::kTileTokens;
  return (tokens.end + kTile - 1) / kTile - tokens.begin / kTile;
}

__device__ int RowCost(const RowSplits& splits) {
  if (splits.count() == 0) return 0;
  return NumTiles(splits.visible) + splits.count() * kItemCost;
}

// The last i in [0, count) with values[i] <= value; values ascend and values[0] <= value.
template <class T>
__device__ int LastNotAbove(const int32_t* values, int count, T value) {
  int low = 0;
  int high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (values[middle] <= value ? low : high) = middle;
  }
  return low;
}

struct Row {
  int seq;
  bool is_decoded;
  RowSplits splits;
};

__device__ Row FindRow(const WorkListParams& p, int row, int doublings) {
  const int seq = LastNotAbove(p.q_offsets, p.num_seqs, row);
  const int q_begin = p.q_offsets[seq];
  const int q_end = p.q_offsets[seq + 1];
  const bool is_decoded = q_end - q_begin <= p.max_queries;
  const TokenRange nothing = {0, 0};
  return {seq, is_decoded,
          RowSplits(is_decoded ? VisibleTokens(p.kv_lens[seq], q_end, row, p.window) : nothing,
                    doublings)};
}

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

// The position, in 1/1024 item, that lies `cost` (in 1/1024 tile) into the list.
__device__ int PositionAt(const WorkListParams& p, int64_t cost, int doublings) {
  const int num_rows = p.row_end - p.row_begin;
  const int i = LastNotAbove(p.list.row_costs, num_rows, cost / 1024);
  const RowSplits splits = FindRow(p, p.row_begin + i, doublings).splits;
  int64_t left = cost - int64_t{1024} * p.list.row_costs[i];
  // All items but the first and the last are full splits.
  int item = 0;
  int64_t item_cost = int64_t{1024} * (NumTiles(splits.split(0)) + kItemCost);
  if (left >= item_cost && splits.count() > 1) {
    left -= item_cost;
    const int64_t full =
        int64_t{1024} * (splits.split_tokens / SlabLayout::kTileTokens + kItemCost);
    const int behind_first = static_cast<int>(left / full);
    const int last = splits.count() - 2;
    item = 1 + (behind_first < last ? behind_first : last);
    left -= (item - 1) * full;
    item_cost = int64_t{1024} * (NumTiles(splits.split(item)) + kItemCost);
  }
  const auto part = static_cast<int>(left * kPositionsPerItem / item_cost);
  return (p.list.rows[i].first + item) * kPositionsPerItem + part;
}

// Lists rows and items with splits of that size and returns the sums over all rows. Items for which
// there is no room are not written.
__device__ Sums ListRows(const WorkListParams& p, int doublings) {
  const int thread = static_cast<int>(threadIdx.x);
  const int num_rows = p.row_end - p.row_begin;
  Sums sums = {0, 0};
  for (int first = 0; first < num_rows; first += kThreads) {
    const int i = first + thread;
    Row row = {0, true, RowSplits(TokenRange{0, 0})};
    if (i < num_rows) row = FindRow(p, p.row_begin + i, doublings);
    Sums total;
    const Sums before = ExclusiveSums({row.splits.count(), RowCost(row.splits)}, &total);
    if (i < num_rows) {
      const int first_item = sums.items + before.items;
      const int count = row.splits.count();
      p.list.rows[i] = {first_item, row.is_decoded ? count : RowItems::kNotDecoded};
      p.list.row_costs[i] = sums.cost + before.cost;
      for (int k = 0; k < count && first_item + k < p.list.max_items; ++k) {
        const TokenRange tokens = row.splits.split(k);
        p.list.items[first_item + k] = {p.row_begin + i, row.seq, tokens.begin, tokens.end};
      }
    }
    sums = {sums.items + total.items, sums.cost + total.cost};
  }
  SyncThreads();  // rows and costs are written
  return sums;
}

__global__ void __launch_bounds__(kThreads)
    BuildWorkList(const __grid_constant__ WorkListParams p) {
  WaitForPrevious();
  LetNextStart();
  const int thread = static_cast<int>(threadIdx.x);
  int doublings = 0;
  Sums sums = ListRows(p, doublings);
  while (sums.items > p.list.max_items) sums = ListRows(p, ++doublings);
  const int num_workers = p.list.num_workers;
  for (int worker = thread; worker <= num_workers; worker += kThreads) {
    int position = sums.items * kPositionsPerItem;
    if (worker < num_workers && sums.items > 0) {
      position = PositionAt(p, int64_t{1024} * sums.cost * worker / num_workers, doublings);
    }
    p.list.worker_begin[worker] = position;
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
