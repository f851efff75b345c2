#include "tests/simt/grid_run.h"

#include <numeric>
#include <utility>

namespace mea::simt {

GridRun::GridRun(const Grid& grid)
    : grid_(grid), order_(size_t{grid.grid.x} * grid.grid.y * grid.grid.z), block_(grid) {
  std::iota(order_.begin(), order_.end(), 0u);
  Random random(grid.seed);
  for (size_t i = order_.size(); i > 1; --i) {
    std::swap(order_[i - 1], order_[random.Below(static_cast<uint32_t>(i))]);
  }
}

dim3 GridRun::IndexOf(size_t i) const {
  const uint32_t row = order_[i] / grid_.grid.x;
  return {order_[i] % grid_.grid.x, row % grid_.grid.y, row / grid_.grid.y};
}

void GridRun::RunAhead() {
  block_.Start(IndexOf(0), /*previous_runs=*/true);
  while (block_.Continue() == Block::Pause::kLetNextStart) {
  }
  ran_ahead_ = true;
}

void GridRun::Run(const std::function<void()>& next_may_start) {
  for (size_t i = 0; i < order_.size(); ++i) {
    if (i > 0 || !ran_ahead_) {
      block_.Start(IndexOf(i), /*previous_runs=*/false);
    } else if (block_.ended()) {
      continue;  // the whole block ran ahead
    } else {
      if (block_.let_next_start() && order_.size() == 1) next_may_start();
      block_.PreviousEnded();
    }
    while (block_.Continue() == Block::Pause::kLetNextStart) {
      if (i + 1 == order_.size()) next_may_start();
    }
  }
  if (grid_.overlaps_previous && !block_.waited_for_previous()) {
    // The next kernel would take the end of this one for the end of those before it.
    block_.Fail("launched with overlaps_previous, but no thread calls WaitForPrevious",
                Where::current());
  }
}

}  // namespace mea::simt
