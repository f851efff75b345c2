#include "kernels/cpu/matmul_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace mea::cpu {
namespace {

constexpr ProductKernels kKernels = {
    .most_rows = 512, .many_outs = 128, .row_floats = [](int64_t k) { return k / 2; }};

// Projections of `outs` outputs each, without memory.
std::vector<Projection> Projections(std::initializer_list<int64_t> outs, int64_t k) {
  std::vector<Projection> projections;
  for (const int64_t count : outs) {
    projections.push_back({.w = TensorView::Dense(nullptr, DType::kBf16, {count, k})});
  }
  return projections;
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

TEST(MatMulScheduleTest, ThreadsHaveEqualSharesOfManyRows) {
  for (const int num_threads : {1, 2, 3, 8, 16}) {
    for (const auto& projections :
         {Projections({576, 192, 192}, 576), Projections({576}, 1536), Projections({576}, 576),
          Projections({1536, 1536}, 576), Projections({2048}, 8192)}) {
      const ManyRowsCut cut = CutManyRows(512, projections, kKernels, num_threads);
      int64_t items = 0;
      int64_t all_outs = 0;
      for (const Projection& projection : projections) {
        items += cut.row_blocks * CeilDiv(projection.w.shape[0], cut.outs);
        all_outs += projection.w.shape[0];
      }
      const double most = static_cast<double>(CeilDiv(items, num_threads)) *
                          static_cast<double>(cut.outs * CeilDiv(512, cut.row_blocks));
      EXPECT_LT(most * num_threads, 1.2 * 512 * static_cast<double>(all_outs))
          << num_threads << " threads, " << all_outs << " outputs";
    }
  }
}

TEST(MatMulScheduleTest, BlocksOfManyRowsFitTheCacheAndTheKernels) {
  for (const int64_t num_rows : {17, 192, 193, 512, 513, 5000}) {
    for (const int64_t k : {64, 576, 1536, 8192}) {
      for (const int num_threads : {1, 2}) {
        const ManyRowsCut cut =
            CutManyRows(num_rows, Projections({1000}, k), kKernels, num_threads);
        const int64_t rows = CeilDiv(num_rows, cut.row_blocks);
        EXPECT_GT(cut.row_blocks, 0);
        EXPECT_LE(rows, kKernels.most_rows);
        EXPECT_TRUE(rows <= kPanelRows || rows * k * 2 <= 384 << 10) << rows << " rows of " << k;
        EXPECT_GT(cut.outs, 0);
        EXPECT_LE(cut.outs, kKernels.many_outs);
        EXPECT_EQ(cut.outs % kPanelOuts, 0);
      }
    }
  }
}

TEST(MatMulScheduleTest, StreamedWeightsAreTwoBlocksAThreadUpToABound) {
  const auto outs = [](int64_t num_outs, int64_t row_bytes, int num_threads, int unit) {
    return StreamedOuts(num_outs, row_bytes, {.few_outs = unit, .few_bytes = 1 << 20}, num_threads);
  };
  EXPECT_EQ(outs(576, 1152, 2, 4), 144);
  EXPECT_EQ(outs(1000, 1152, 2, 12), 252);    // whole units
  EXPECT_EQ(outs(3, 1152, 8, 4), 4);          // one at least
  EXPECT_EQ(outs(100'000, 4096, 2, 4), 256);  // the bound
  EXPECT_EQ(outs(100'000, 4096, 2, 24), 240);
  EXPECT_EQ(outs(100'000, 1 << 20, 2, 16), 16);  // a unit is more than the bound
}

TEST(MatMulScheduleTest, RowsArePackedInMoreSharesTheFewerBlocksThereAre) {
  EXPECT_EQ(PackShares(480, 1), 20);
  EXPECT_EQ(PackShares(480, 4), 5);
  EXPECT_EQ(PackShares(17, 1), 1);
}

TEST(MatMulScheduleTest, SharesOfPackedRowsAreEveryGroupOnce) {
  for (const int num_groups : {1, 2, 15, 43}) {
    for (const int num_shares : {1, 2, 7, 21}) {
      int next = 0;
      for (int share = 0; share < num_shares; ++share) {
        const PackArgs args = {.share = share, .num_shares = num_shares};
        EXPECT_EQ(args.FirstGroup(num_groups), next);
        next = args.EndGroup(num_groups);
      }
      EXPECT_EQ(next, num_groups);
    }
  }
}

}  // namespace
}  // namespace mea::cpu
