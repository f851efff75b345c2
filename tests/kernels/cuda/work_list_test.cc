// The list that the kernel makes on the emulated device, and its arithmetic on the host.
#include "kernels/cuda/attention/work_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <random>

#include "tests/simt/device_vector.h"

namespace mea::cuda {
namespace {

using simt::DeviceVector;

struct Batch {
  std::vector<int32_t> q_offsets;
  std::vector<int32_t> kv_lens;
  int window = 0;
  int max_queries = INT_MAX;
  int num_columns = 6;
  SplitRule rule = {};
  int row_begin = 0;
  int row_end = -1;    // all
  int max_items = -1;  // what the longest row would need, for every row
};

struct HostList {
  std::vector<WorkItem> items;
  std::vector<RowItems> rows;
  std::vector<int> column_begin;
};

HostList Build(const Batch& batch) {
  const int num_seqs = static_cast<int>(batch.kv_lens.size());
  const int row_end = batch.row_end < 0 ? batch.q_offsets.back() : batch.row_end;
  const int num_rows = row_end - batch.row_begin;
  const int max_visible = *std::max_element(batch.kv_lens.begin(), batch.kv_lens.end());
  const int max_items = batch.max_items >= 0      ? batch.max_items
                        : batch.rule.is_invariant ? num_rows * MaxSplits(std::max(1, max_visible))
                                                  : num_rows + batch.num_columns;
  const DeviceVector q_offsets(batch.q_offsets);
  const DeviceVector kv_lens(batch.kv_lens);
  const DeviceVector<WorkItem> items(max_items);
  const DeviceVector<RowItems> rows(num_rows);
  const DeviceVector<int> costs(num_rows);
  const DeviceVector<int> column_begin(batch.num_columns + 1);
  EXPECT_EQ(LaunchBuildWorkList({.q_offsets = q_offsets.data(),
                                 .kv_lens = kv_lens.data(),
                                 .num_seqs = num_seqs,
                                 .row_begin = batch.row_begin,
                                 .row_end = row_end,
                                 .window = batch.window,
                                 .max_queries = batch.max_queries,
                                 .rule = batch.rule,
                                 .list = {.items = items.data(),
                                          .max_items = max_items,
                                          .rows = rows.data(),
                                          .row_costs = costs.data(),
                                          .column_begin = column_begin.data(),
                                          .num_columns = batch.num_columns}},
                                nullptr),
            cudaSuccess);
  HostList host = {items.ToHost(), rows.ToHost(), column_begin.ToHost()};
  int num_items = 0;
  for (const RowItems& row : host.rows) num_items += std::max(0, row.count);
  EXPECT_LE(num_items, max_items);
  host.items.resize(num_items);
  return host;
}

// One row per sequence.
Batch Decode(std::vector<int32_t> kv_lens) {
  Batch batch;
  for (size_t i = 0; i <= kv_lens.size(); ++i) batch.q_offsets.push_back(static_cast<int32_t>(i));
  batch.kv_lens = std::move(kv_lens);
  return batch;
}

// Rows in order, each row's items in order, and together exactly what the row sees.
void ExpectCoverage(const Batch& batch, const HostList& list) {
  size_t item = 0;
  for (size_t i = 0; i < list.rows.size(); ++i) {
    const int row = batch.row_begin + static_cast<int>(i);
    const auto behind = std::upper_bound(batch.q_offsets.begin(), batch.q_offsets.end(), row);
    const int seq = static_cast<int>(behind - batch.q_offsets.begin()) - 1;
    const int q_len = batch.q_offsets[seq + 1] - batch.q_offsets[seq];
    EXPECT_EQ(list.rows[i].first, static_cast<int>(item));
    if (q_len > batch.max_queries) {
      EXPECT_EQ(list.rows[i].count, RowItems::kNotDecoded);
      continue;
    }
    const int end =
        batch.kv_lens[seq] == 0 ? 0 : batch.kv_lens[seq] - (batch.q_offsets[seq + 1] - 1 - row);
    int next = batch.window > 0 ? std::max(0, end - batch.window) : 0;
    for (int k = 0; k < list.rows[i].count; ++k, ++item) {
      ASSERT_LT(item, list.items.size());
      EXPECT_EQ(list.items[item].row, row);
      EXPECT_EQ(list.items[item].seq, seq);
      EXPECT_EQ(list.items[item].begin, next);
      EXPECT_GT(list.items[item].end, next);
      next = list.items[item].end;
      if (k + 1 < list.rows[i].count) {
        EXPECT_EQ(next % (batch.rule.is_invariant ? 256 : 64), 0);
      }
    }
    EXPECT_EQ(next, end) << "row " << row;
  }
  EXPECT_EQ(item, list.items.size());
}

// Every item has one column.
void ExpectDealtOut(const HostList& list) {
  EXPECT_EQ(list.column_begin.front(), 0);
  EXPECT_EQ(list.column_begin.back(), static_cast<int>(list.items.size()));
  EXPECT_TRUE(std::is_sorted(list.column_begin.begin(), list.column_begin.end()));
}

int TilesOf(const WorkItem& item) { return (item.end + 63) / 64 - item.begin / 64; }

constexpr SplitRule kShares = SharesOf(128 << 10);

TEST(WorkListTest, EveryVisibleTokenIsCoveredOnce) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 60; ++trial) {
    SCOPED_TRACE(::testing::Message() << "trial " << trial);
    Batch batch;
    batch.window = trial % 3 == 0 ? 1 + static_cast<int>(random() % 2000) : 0;
    batch.max_queries = trial % 4 == 0 ? 8 : INT_MAX;
    batch.num_columns = 1 + static_cast<int>(random() % 300);
    if (trial % 2 == 1) batch.rule = SharesOf(int64_t{1} << (13 + random() % 8));
    batch.q_offsets = {0};
    const int num_seqs = 1 + static_cast<int>(random() % 40);
    for (int s = 0; s < num_seqs; ++s) {
      const bool is_padding = random() % 8 == 0;
      const int q_len = random() % 5 == 0 ? static_cast<int>(random() % 14) : 1;
      const int kv_len = q_len + static_cast<int>(random() % (random() % 4 == 0 ? 50000 : 900));
      batch.q_offsets.push_back(batch.q_offsets.back() + (is_padding ? 1 : q_len));
      batch.kv_lens.push_back(is_padding ? 0 : kv_len);
    }
    if (batch.q_offsets.back() == 0) continue;
    if (trial % 5 == 0) batch.row_begin = batch.q_offsets.back() / 2;
    const HostList list = Build(batch);
    ExpectCoverage(batch, list);
    ExpectDealtOut(list);
  }
}

TEST(WorkListTest, MoreRowsThanThreadsOfTheBlock) {
  std::vector<int32_t> lens(700);
  for (size_t i = 0; i < lens.size(); ++i) lens[i] = static_cast<int32_t>(i * 37 % 1500);
  Batch batch = Decode(lens);
  for (const SplitRule& rule : {SplitRule(), kShares}) {
    batch.rule = rule;
    ExpectCoverage(batch, Build(batch));
  }
}

TEST(WorkListTest, AnEmptyBatchHasNoWork) {
  Batch batch = Decode({0, 0, 0});
  for (const SplitRule& rule : {SplitRule(), kShares}) {
    batch.rule = rule;
    const HostList list = Build(batch);
    EXPECT_TRUE(list.items.empty());
    for (const int item : list.column_begin) EXPECT_EQ(item, 0);
    for (const RowItems& row : list.rows) EXPECT_EQ(row.count, 0);
  }
}

// Then a request's result does not depend on its neighbours.
TEST(WorkListTest, InvariantSplitsDependOnTheRowAlone) {
  const HostList alone = Build(Decode({9000}));
  const HostList among = Build(Decode({17, 9000, 40000, 0}));
  ASSERT_EQ(among.rows[1].count, static_cast<int>(alone.items.size()));
  for (size_t i = 0; i < alone.items.size(); ++i) {
    const WorkItem& item = among.items[among.rows[1].first + i];
    EXPECT_EQ(item.begin, alone.items[i].begin);
    EXPECT_EQ(item.end, alone.items[i].end);
  }
}

// Sequences that share a prefix may have more tokens than the cache.
TEST(WorkListTest, SplitsAreDoubledUntilTheListHasRoom) {
  Batch batch = Decode({9000, 1, 40000, 0, 700, 123456, 8192, 300});
  const int num_splits = static_cast<int>(Build(batch).items.size());
  for (const int max_items : {num_splits, num_splits - 1, 100, 20, 8, 7}) {
    SCOPED_TRACE(::testing::Message() << "room for " << max_items);
    batch.max_items = max_items;
    const HostList list = Build(batch);
    ExpectCoverage(batch, list);
    ExpectDealtOut(list);
    EXPECT_GT(2 * static_cast<int>(list.items.size()) + 8, std::min(max_items, num_splits));
    EXPECT_EQ(static_cast<int>(list.items.size()) == num_splits, max_items == num_splits);
  }
}

TEST(WorkListTest, MaxSplitsIsNeverExceeded) {
  for (const int most : {1, 255, 256, 257, 8192, 8193, 9000, 16384, 32768, 32769, 40000, 131072}) {
    int seen = 0;
    for (int visible = 1; visible <= most; ++visible) {
      for (const int begin : {0, 1, 255, 1023}) {
        if (visible % 7 != 0 && visible + 40 < most) continue;
        seen = std::max(seen, RowSplits({begin, begin + visible}).count());
      }
    }
    EXPECT_LE(seen, MaxSplits(most)) << most;
    EXPECT_GE(seen + 1, MaxSplits(most)) << most;
  }
}

// The longest share is at most the mean and one item: what is left to balance is one split.
TEST(WorkListTest, ColumnsOfInvariantSplitsDifferByAnItemAtMost) {
  Batch batch = Decode({8192, 100, 5000, 3000, 8000, 700, 1, 2500});
  batch.num_columns = 11;
  const HostList list = Build(batch);
  int total = 0;
  for (const WorkItem& item : list.items) total += TilesOf(item) + 1;
  for (int column = 0; column < batch.num_columns; ++column) {
    int share = 0;
    for (int i = list.column_begin[column]; i < list.column_begin[column + 1]; ++i) {
      share += TilesOf(list.items[i]) + 1;
    }
    EXPECT_LE(share, total / batch.num_columns + 6) << "column " << column;
  }
}

// Of all tiles, whatever the lengths; at most one item for each row and one for each column.
TEST(WorkListTest, SharesDifferByTilesAtMost) {
  std::mt19937_64 random(11);
  for (const int num_columns : {1, 7, 132, 264}) {
    std::vector<int32_t> lens;
    for (int i = 0; i < 100; ++i) lens.push_back(1 + static_cast<int>(random() % 20000));
    Batch batch = Decode(lens);
    batch.num_columns = num_columns;
    batch.rule = kShares;
    const HostList list = Build(batch);
    EXPECT_LE(list.items.size(), lens.size() + num_columns);
    int total = 0;
    for (const WorkItem& item : list.items) total += TilesOf(item);
    for (int column = 0; column < num_columns; ++column) {
      int share = 0;
      for (int i = list.column_begin[column]; i < list.column_begin[column + 1]; ++i) {
        share += TilesOf(list.items[i]);
      }
      EXPECT_NEAR(share, total / num_columns, 4) << "column " << column << " of " << num_columns;
    }
  }
}

// One row for all blocks: no column gets two of the largest pieces.
TEST(WorkListTest, AFewTilesSpreadOverTheColumns) {
  for (const int num_tiles : {1, 2, 32, 128, 256, 264, 300}) {
    Batch batch = Decode({64 * num_tiles});
    batch.num_columns = 264;
    batch.rule = SharesOf(512 << 10);  // a tile is worth an item
    const HostList list = Build(batch);
    int longest = 0;
    for (int column = 0; column < batch.num_columns; ++column) {
      int share = 0;
      for (int i = list.column_begin[column]; i < list.column_begin[column + 1]; ++i) {
        share += TilesOf(list.items[i]);
      }
      longest = std::max(longest, share);
    }
    EXPECT_EQ(longest, (num_tiles + 263) / 264) << num_tiles;
  }
}

TEST(WorkListTest, ASmallTileIsNoItem) {
  Batch batch = Decode({64 * 32});
  batch.num_columns = 264;
  batch.rule = SharesOf(16 << 10);
  for (const WorkItem& item : Build(batch).items) EXPECT_GE(TilesOf(item), 4);
}

}  // namespace
}  // namespace mea::cuda
