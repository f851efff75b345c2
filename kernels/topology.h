#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace mea {

// A logical processor. Cores and clusters are named after their first one.
struct Cpu {
  int id = 0;
  int core = 0;     // the physical core, which several may share
  int cluster = 0;  // those that share the last cache before memory
  int node = 0;     // of memory, the nearest one that has any

  friend bool operator==(const Cpu&, const Cpu&) = default;
};

// The processors that this process may use, neighbours together: by node, cluster, core and id.
// Where the machine does not say, each is a core, and all are one cluster on node 0.
struct Topology {
  std::vector<Cpu> cpus;
  std::vector<int> memory_nodes;  // ascending, that this process may use; at least one

  int num_cores() const;
};

// Reads /proc and /sys below `root`, which tests replace.
Topology ReadTopology(const std::filesystem::path& root = "/");

// The numbers of a list as the kernel writes it, "0-3,8", in its order; nothing for anything else.
std::optional<std::vector<int>> ParseCpuList(std::string_view text);

}  // namespace mea
