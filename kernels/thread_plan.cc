#include "kernels/thread_plan.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "kernels/machine.h"

namespace mea {
namespace {

constexpr int kMostThreads = 1024;

// Numbers the clusters of chosen processors, which are in the order of the topology. A machine
// whose clusters have one core each, as virtual machines often show, says nothing about caches.
ThreadPlan ClusteredPlan(const std::vector<Cpu>& chosen) {
  std::set<std::pair<int, int>> clusters;
  for (const Cpu& cpu : chosen) clusters.insert({cpu.node, cpu.cluster});
  const bool is_one = std::ssize(chosen) < 2 * std::ssize(clusters);
  ThreadPlan plan;
  for (const Cpu& cpu : chosen) {
    const auto place = clusters.find({cpu.node, cpu.cluster});
    const auto cluster = static_cast<int>(std::distance(clusters.begin(), place));
    plan.threads.push_back({.cluster = is_one ? 0 : cluster, .node = cpu.node, .cpus = {}});
  }
  return plan;
}

absl::StatusOr<ThreadPlan> PlanListed(const Topology& topology, const std::string& affinity,
                                      int num_threads) {
  const std::optional<std::vector<int>> list = ParseCpuList(affinity);
  if (!list) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cpu-affinity '", affinity,
                     "' is not auto, off, or a list of processors like 0-15,32-47"));
  }
  std::set<int> wanted;
  for (const int id : *list) {
    if (!wanted.insert(id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--cpu-affinity ", affinity, " names processor ", id, " twice"));
    }
  }
  std::vector<Cpu> chosen;
  for (const Cpu& cpu : topology.cpus) {
    if (wanted.erase(cpu.id) > 0) chosen.push_back(cpu);
  }
  if (!wanted.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--cpu-affinity ", affinity, ": processor ",
                                                   *wanted.begin(),
                                                   " is none that this program may use"));
  }
  if (num_threads > 0 && num_threads != std::ssize(chosen)) {
    return absl::InvalidArgumentError(absl::StrCat("--threads ", num_threads,
                                                   " with --cpu-affinity ", affinity, ", which is ",
                                                   chosen.size(), " processors"));
  }
  ThreadPlan plan = ClusteredPlan(chosen);
  for (size_t i = 0; i < chosen.size(); ++i) plan.threads[i].cpus = {chosen[i].id};
  return plan;
}

}  // namespace

ThreadPlan AnyThreads(int num_threads) { return {std::vector<ThreadPlan::Thread>(num_threads)}; }

absl::StatusOr<ThreadPlan> PlanThreads(const Topology& topology, const std::string& affinity,
                                       int num_threads, int usable_cpus) {
  if (num_threads < 0 || num_threads > kMostThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads ", num_threads, " is outside 0..", kMostThreads));
  }
  if (affinity != "auto" && affinity != "off") return PlanListed(topology, affinity, num_threads);
  std::vector<Cpu> cores;  // the first processor of each
  for (const Cpu& cpu : topology.cpus) {
    if (cores.empty() || cores.back().core != cpu.core) cores.push_back(cpu);
  }
  if (num_threads == 0) num_threads = std::min(topology.num_cores(), usable_cpus);
  if (affinity == "off") return AnyThreads(num_threads);
  std::vector<Cpu> chosen;
  for (int64_t i = 0; i < num_threads; ++i) {
    chosen.push_back(cores[i * std::ssize(cores) / num_threads]);
  }
  ThreadPlan plan = ClusteredPlan(chosen);
  if (plan.num_clusters() < 2) return plan;
  for (int i = 0; i < num_threads; ++i) {
    for (const Cpu& cpu : topology.cpus) {
      if (cpu.node == chosen[i].node && cpu.cluster == chosen[i].cluster) {
        plan.threads[i].cpus.push_back(cpu.id);
      }
    }
  }
  return plan;
}

absl::StatusOr<ThreadPlan> PlanThreads(const std::string& affinity, int num_threads) {
  return PlanThreads(ReadTopology(), affinity, num_threads, UsableCpus());
}

int DefaultThreads() {
  static const int num_threads = std::min(ReadTopology().num_cores(), UsableCpus());
  return num_threads;
}

}  // namespace mea
