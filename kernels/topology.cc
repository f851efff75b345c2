#include "kernels/topology.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mea {
namespace {

constexpr int kMostCpus = 1 << 14;  // more than any kernel is built for

std::string TextOf(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<int> ListIn(const std::filesystem::path& file) {
  return ParseCpuList(TextOf(file)).value_or(std::vector<int>());
}

// The list behind `name` in /proc/self/status.
std::vector<int> AllowedList(const std::string& status, std::string_view name) {
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(status, '\n'))) {
    if (!line.starts_with(name)) continue;
    return ParseCpuList(std::string_view(line).substr(name.size())).value_or(std::vector<int>());
  }
  return {};
}

bool Contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

int FirstOr(const std::vector<int>& list, int fallback) {
  return list.empty() ? fallback : *std::min_element(list.begin(), list.end());
}

// The first of those that share the cache of the highest level.
int ClusterOf(const std::filesystem::path& cpu, int fallback) {
  int best_level = 0;
  int cluster = fallback;
  for (int index = 0;; ++index) {
    const std::filesystem::path cache = cpu / "cache" / absl::StrCat("index", index);
    const std::vector<int> level = ListIn(cache / "level");
    if (level.empty()) break;
    if (level[0] <= best_level) continue;
    if (absl::StripAsciiWhitespace(TextOf(cache / "type")) == "Instruction") continue;
    const std::vector<int> shared = ListIn(cache / "shared_cpu_list");
    if (shared.empty()) continue;
    best_level = level[0];
    cluster = FirstOr(shared, fallback);
  }
  return cluster;
}

// For each node, the one of `with_memory` at the least distance.
int NearestMemory(const std::filesystem::path& nodes, int node, const std::vector<int>& all,
                  const std::vector<int>& with_memory) {
  if (with_memory.empty() || Contains(with_memory, node)) return node;
  // "21 10 21": to each node that is online, in ascending order.
  std::istringstream distances(TextOf(nodes / absl::StrCat("node", node) / "distance"));
  int nearest = with_memory[0];
  int least = 1 << 30;
  for (const int other : all) {
    int distance = 0;
    if (!(distances >> distance)) break;
    if (distance >= least || !Contains(with_memory, other)) continue;
    least = distance;
    nearest = other;
  }
  return nearest;
}

}  // namespace

int Topology::num_cores() const {
  int count = 0;
  for (size_t i = 0; i < cpus.size(); ++i) count += i == 0 || cpus[i].core != cpus[i - 1].core;
  return count;
}

Topology ReadTopology(const std::filesystem::path& root) {
  const std::filesystem::path system = root / "sys/devices/system";
  const std::string status = TextOf(root / "proc/self/status");
  std::vector<int> online = ListIn(system / "cpu/online");
  if (online.empty()) {
    for (int i = 0; i < std::max(1, static_cast<int>(std::thread::hardware_concurrency())); ++i) {
      online.push_back(i);
    }
  }
  const std::vector<int> allowed = AllowedList(status, "Cpus_allowed_list:");

  Topology topology;
  const std::vector<int> nodes = ListIn(system / "node/online");
  const std::vector<int> allowed_nodes = AllowedList(status, "Mems_allowed_list:");
  for (const int node : ListIn(system / "node/has_memory")) {
    if (allowed_nodes.empty() || Contains(allowed_nodes, node)) {
      topology.memory_nodes.push_back(node);
    }
  }
  std::map<int, int> node_of;  // by processor
  for (const int node : nodes) {
    const int memory = NearestMemory(system / "node", node, nodes, topology.memory_nodes);
    for (const int cpu : ListIn(system / "node" / absl::StrCat("node", node) / "cpulist")) {
      node_of[cpu] = memory;
    }
  }
  if (topology.memory_nodes.empty()) topology.memory_nodes = {0};

  for (const int id : online) {
    if (!allowed.empty() && !Contains(allowed, id)) continue;
    const std::filesystem::path cpu = system / "cpu" / absl::StrCat("cpu", id);
    const std::vector<int> siblings = ListIn(cpu / "topology/thread_siblings_list");
    const auto node = node_of.find(id);
    topology.cpus.push_back(
        {.id = id,
         .core = FirstOr(siblings, id),
         .cluster = ClusterOf(cpu, online[0]),
         .node = node == node_of.end() ? topology.memory_nodes[0] : node->second});
  }
  if (topology.cpus.empty()) topology.cpus.push_back({});
  const auto key = [](const Cpu& cpu) {
    return std::tuple(cpu.node, cpu.cluster, cpu.core, cpu.id);
  };
  std::sort(topology.cpus.begin(), topology.cpus.end(),
            [&](const Cpu& a, const Cpu& b) { return key(a) < key(b); });
  return topology;
}

std::optional<std::vector<int>> ParseCpuList(std::string_view text) {
  const absl::string_view stripped = absl::StripAsciiWhitespace({text.data(), text.size()});
  std::vector<int> list;
  for (const absl::string_view range : absl::StrSplit(stripped, ',')) {
    const char* const end = range.data() + range.size();
    int first = 0;
    std::from_chars_result number = std::from_chars(range.data(), end, first);
    if (number.ec != std::errc()) return std::nullopt;
    int last = first;
    if (number.ptr != end) {
      if (*number.ptr != '-') return std::nullopt;
      number = std::from_chars(number.ptr + 1, end, last);
      if (number.ec != std::errc() || number.ptr != end) return std::nullopt;
    }
    if (first < 0 || last < first || last >= kMostCpus) return std::nullopt;
    for (int i = first; i <= last; ++i) list.push_back(i);
    if (list.size() > kMostCpus) return std::nullopt;
  }
  return list;
}

}  // namespace mea
