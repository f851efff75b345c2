#include "server/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numeric>

namespace mea {
namespace {

constexpr double kSteps[] = {1, 2, 5};
constexpr int kNumSteps = 3;
constexpr int kLowestEdge = -6 * kNumSteps;  // a microsecond, if the unit is a second

// The edges in their order: ..., 0.5, 1, 2, 5, 10, ...; edge 0 is 1.
double Edge(int number) {
  const int power = number >= 0 ? number / kNumSteps : -((-number + kNumSteps - 1) / kNumSteps);
  return kSteps[number - power * kNumSteps] * std::pow(10.0, power);
}

// The largest edge that is at most `value`.
int EdgeBelow(double value) {
  if (!(value > Edge(kLowestEdge))) return kLowestEdge;
  int number = static_cast<int>(std::floor(std::log10(value))) * kNumSteps;
  while (Edge(number) > value) --number;
  while (Edge(number + 1) <= value) ++number;
  return number;
}

}  // namespace

double Quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  const double rank = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = std::ssize(values),
          .mean = sum / static_cast<double>(values.size()),
          .median = Quantile(values, 0.5),
          .p90 = Quantile(values, 0.9),
          .p99 = Quantile(values, 0.99),
          .max = values.back()};
}

std::vector<HistogramBin> MakeHistogram(const std::vector<double>& values) {
  std::map<int, int64_t> counts;  // by the edge below
  for (const double value : values) ++counts[EdgeBelow(value)];
  std::vector<HistogramBin> bins;
  if (counts.empty()) return bins;
  for (int edge = counts.begin()->first; edge <= counts.rbegin()->first; ++edge) {
    const auto it = counts.find(edge);
    bins.push_back(
        {.low = Edge(edge), .high = Edge(edge + 1), .count = it == counts.end() ? 0 : it->second});
  }
  return bins;
}

}  // namespace mea
