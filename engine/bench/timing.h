#pragma once

#include <chrono>
#include <vector>

namespace mea {

// Repeated measurements of one thing, in seconds.
struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
  int rounds = 0;
};

// Of at least one measurement.
Spread SpreadOf(std::vector<double> seconds);
double MedianOf(std::vector<double> values);

template <typename Work>
double SecondsOf(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace mea
