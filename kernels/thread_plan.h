#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/topology.h"

namespace mea {

class Backend;

// Where the threads of a pool run. Those of a cluster are neighbours.
struct ThreadPlan {
  struct Thread {
    int cluster = 0;        // 0, 1, ... ascending
    int node = 0;           // of memory
    std::vector<int> cpus;  // that it may run on; empty: wherever the process may
  };
  std::vector<Thread> threads;

  int num_threads() const { return static_cast<int>(threads.size()); }
  int num_clusters() const { return threads.empty() ? 0 : threads.back().cluster + 1; }
};

// `num_threads` threads that run anywhere, in one cluster.
ThreadPlan AnyThreads(int num_threads);

// "auto": one thread for each physical core, but at most `usable_cpus`, or `num_threads` if that is
// not 0, spread over all clusters; each stays in its cluster, where the system moves it. "off": as
// many, anywhere. A list like "0-15,32": one thread for each of these processors, on it.
// INVALID_ARGUMENT, naming --cpu-affinity, for anything else.
absl::StatusOr<ThreadPlan> PlanThreads(const Topology& topology, const std::string& affinity,
                                       int num_threads, int usable_cpus);
// The same on this machine.
absl::StatusOr<ThreadPlan> PlanThreads(const std::string& affinity, int num_threads);
// The threads of a plan without a number.
int DefaultThreads();

// CreateCpuBackend on such threads, of which the one that calls the ops is the first.
absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(ThreadPlan plan);

}  // namespace mea
