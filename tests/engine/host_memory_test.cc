#include "engine/host_memory.h"

#include <gtest/gtest.h>

namespace mea {
namespace {

constexpr int64_t kMiB = 1 << 20;

MachineLimits Machine(int64_t memory, int64_t available) {
  return {.memory_bytes = memory,
          .memory_source = "memory.max of cgroup /a",
          .available_bytes = available};
}

TEST(FitKvCacheTest, ByDefaultWhatIsWantedOrAQuarterOfTheMachine) {
  HostMemoryNeed need{.weights_bytes = kMiB, .page_bytes = kMiB, .wanted_bytes = 100 * kMiB};
  EXPECT_EQ(FitKvCache(need, Machine(1024 * kMiB, 1024 * kMiB)).value(), 100 * kMiB);
  need.wanted_bytes = 1000 * kMiB;
  EXPECT_EQ(FitKvCache(need, Machine(1024 * kMiB, 1024 * kMiB)).value(), 256 * kMiB);
}

TEST(FitKvCacheTest, ByDefaultNoMoreThanTheRestLeavesOfWhatIsAvailable) {
  const HostMemoryNeed need{.weights_bytes = 300 * kMiB,
                            .workspace_bytes = 50 * kMiB,
                            .page_bytes = kMiB,
                            .wanted_bytes = 1000 * kMiB};
  EXPECT_EQ(FitKvCache(need, Machine(4096 * kMiB, 358 * kMiB + kProgramBytes)).value(), 8 * kMiB);
}

TEST(FitKvCacheTest, WhatCannotFitIsRefusedWithLimitNeedAndFlag) {
  HostMemoryNeed need{.weights_bytes = 900 * kMiB, .workspace_bytes = kMiB, .page_bytes = kMiB};
  EXPECT_EQ(
      FitKvCache(need, Machine(1024 * kMiB, 1000 * kMiB)).status().message(),
      "weights of 900.00 MiB, a workspace of 1.00 MiB and 128.00 MiB for the program leave none of "
      "the 1000.00 MiB available (memory.max of cgroup /a: 1.00 GiB) for the KV cache; see "
      "--weight-dtype, --max-batch-tokens");
  need.weights_bytes = 100 * kMiB;
  need.asked_bytes = 800 * kMiB;
  EXPECT_EQ(
      FitKvCache(need, Machine(1024 * kMiB, 1000 * kMiB)).status().message(),
      "--kv-cache-bytes 800.00 MiB beside weights of 100.00 MiB, a workspace of 1.00 MiB and "
      "128.00 MiB for the program exceeds the 1000.00 MiB available (memory.max of cgroup /a: "
      "1.00 GiB)");
  need.asked_bytes = 700 * kMiB;  // more than a quarter: that is for defaults
  EXPECT_EQ(FitKvCache(need, Machine(1024 * kMiB, 1000 * kMiB)).value(), 700 * kMiB);
}

}  // namespace
}  // namespace mea
