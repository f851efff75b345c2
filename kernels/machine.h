#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mea {

// What this process may use of its machine: the least of what the machine has and of what the
// process's control group and all groups above it allow (cgroup v1 and v2, as containers use them).
struct MachineLimits {
  int64_t memory_bytes = 0;   // the total that it may have
  std::string memory_source;  // what limits it: "RAM", "memory.max of cgroup /a", "ulimit -v"
  // The part that nobody uses; cached pages of files count as free, since the kernel gives them up.
  int64_t available_bytes = 0;
  int cpus = 1;             // threads that can run at once; a quota's fraction counts as one
  std::string cpus_source;  // "processors", "affinity", "cpu.max of cgroup /a"
};

// Reads /proc and /sys below `root`, which tests replace. Missing files do not limit.
MachineLimits ReadMachineLimits(const std::filesystem::path& root = "/");

// MachineLimits::cpus, read once.
int UsableCpus();

// "AMD EPYC 9B14", as the kernel names it, or "unknown".
std::string ProcessorName(const std::filesystem::path& root = "/");

}  // namespace mea
