#include "engine/bench/timing.h"

#include <algorithm>

#include "kernels/check.h"

namespace mea {

double MedianOf(std::vector<double> values) {
  MEA_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Spread SpreadOf(std::vector<double> seconds) {
  const auto [min, max] = std::minmax_element(seconds.begin(), seconds.end());
  Spread spread{.min = *min, .max = *max, .rounds = static_cast<int>(seconds.size())};
  spread.median = MedianOf(std::move(seconds));
  return spread;
}

}  // namespace mea
