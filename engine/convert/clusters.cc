#include "engine/convert/clusters.h"

#include <numeric>
#include <utility>

namespace mea::convert {
namespace {

double MeanAffinity(const Matrix& affinity, const std::vector<int>& a, const std::vector<int>& b) {
  double sum = 0;
  for (const int i : a) {
    for (const int j : b) sum += affinity(i, j);
  }
  return sum / static_cast<double>(a.size() * b.size());
}

}  // namespace

Clusters AgglomerateHeads(const Matrix& affinity, int count) {
  Clusters clusters;
  for (int j = 0; j < affinity.rows; ++j) clusters.push_back({j});
  while (std::ssize(clusters) > count) {
    size_t first = 0;
    size_t second = 1;
    double best = -1;
    for (size_t a = 0; a < clusters.size(); ++a) {
      for (size_t b = a + 1; b < clusters.size(); ++b) {
        const double mean = MeanAffinity(affinity, clusters[a], clusters[b]);
        if (mean > best) std::tie(best, first, second) = std::tuple(mean, a, b);
      }
    }
    clusters[first].insert(clusters[first].end(), clusters[second].begin(), clusters[second].end());
    clusters.erase(clusters.begin() + static_cast<std::ptrdiff_t>(second));
  }
  return clusters;
}

Clusters RandomClusters(int heads, int count, Random& random) {
  std::vector<int> order(heads);
  std::iota(order.begin(), order.end(), 0);
  for (int i = heads - 1; i > 0; --i) std::swap(order[i], order[random.Below(i + 1)]);
  Clusters clusters(count);
  for (int i = 0; i < heads; ++i) clusters[i % count].push_back(order[i]);
  return clusters;
}

}  // namespace mea::convert
