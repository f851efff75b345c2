#pragma once

#include <cstdint>
#include <vector>

namespace mea {

struct Summary {
  int64_t count = 0;  // 0: the rest is meaningless
  double mean = 0;
  double median = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Linear between the two nearest of `sorted`, as numpy.percentile does. `share` is 0..1; returns 0
// if there is no value.
double Quantile(const std::vector<double>& sorted, double share);

Summary Summarize(std::vector<double> values);

struct HistogramBin {
  double low = 0;
  double high = 0;
  int64_t count = 0;  // of values in [low, high)
};

// Bins between 1, 2 and 5 times the powers of ten, from the first to the last that is not empty.
// Values should be positive; others count in the lowest bin.
std::vector<HistogramBin> MakeHistogram(const std::vector<double>& values);

}  // namespace mea
