#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mea {

// What this process may take of its machine: the least of what the machine has and of what the
// control groups that hold it allow, its own and all above (cgroup v1 and v2, as containers use
// them).
struct MachineLimits {
  int64_t memory_bytes = 0;   // that it may have in all
  std::string memory_source;  // who says so: "RAM", "memory.max of cgroup /a", "ulimit -v"
  // Of them not taken by anybody; pages of files count as free, since the kernel gives them up.
  int64_t available_bytes = 0;
  int cpus = 1;             // threads that can run at once; a quota's fraction counts as one
  std::string cpus_source;  // "processors", "affinity", "cpu.max of cgroup /a"
};

// Reads /proc and /sys below `root`, which tests replace. What is not there does not limit.
MachineLimits ReadMachineLimits(const std::filesystem::path& root = "/");

// MachineLimits::cpus, read once.
int UsableCpus();

}  // namespace mea
