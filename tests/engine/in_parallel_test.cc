#include "engine/weights/in_parallel.h"

#include <gtest/gtest.h>

#include <atomic>

namespace mea {
namespace {

TEST(InParallelTest, PiecesCoverEverythingOnceOnNoMoreThreadsThanAreWorthIt) {
  for (const int64_t count : {0, 1, 7, 99, 100, 101, 1000}) {
    for (const int num_threads : {1, 2, 5}) {
      std::vector<int> visits(count, 0);  // plain: two pieces that overlap would race
      std::atomic<int> num_pieces{0};
      InParallel(count, 50, num_threads, [&](int64_t begin, int64_t end) {
        ++num_pieces;
        for (int64_t i = begin; i < end; ++i) ++visits[i];
      });
      for (const int visit : visits) EXPECT_EQ(visit, 1);
      EXPECT_EQ(num_pieces, std::clamp<int64_t>(count / 50, 1, num_threads));
    }
  }
}

}  // namespace
}  // namespace mea
