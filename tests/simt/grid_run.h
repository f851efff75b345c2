#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/simt/block.h"

namespace mea::simt {

// One launch: the blocks of its grid one after the other, in an order drawn from the seed.
class GridRun {
 public:
  explicit GridRun(const Grid& grid);

  // With Grid::overlaps_previous, while the kernel before this one still runs: the first block goes
  // as far as it can.
  void RunAhead();

  // To the end; the kernels before this one have ended. `next_may_start` is called at the first
  // moment when every block has ended or called LetNextStart, if that comes before the end.
  void Run(const std::function<void()>& next_may_start);

 private:
  dim3 IndexOf(size_t i) const;

  Grid grid_;
  std::vector<uint32_t> order_;
  Block block_;
  bool ran_ahead_ = false;
};

}  // namespace mea::simt
