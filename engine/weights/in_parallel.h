#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace mea {

// Calls part(begin, end) for pieces of [0, count) of at least `least` each, on up to `num_threads`
// threads of which this one is the first; returns when all are done.
template <typename Part>
void InParallel(int64_t count, int64_t least, int num_threads, const Part& part) {
  const int64_t parts = std::clamp<int64_t>(count / least, 1, num_threads);
  std::vector<std::jthread> threads;
  for (int64_t i = 1; i < parts; ++i) {
    threads.emplace_back([=, &part] { part(count * i / parts, count * (i + 1) / parts); });
  }
  part(0, count / parts);
}

}  // namespace mea
