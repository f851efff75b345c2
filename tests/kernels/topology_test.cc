// Machines made of files: their processors, caches and nodes.
#include "kernels/topology.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/thread_plan.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

class TopologyTest : public ::testing::Test {
 protected:
  TopologyTest()
      : root_(fs::path(::testing::TempDir()) / ("mea_topology_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
  }
  ~TopologyTest() override { fs::remove_all(root_); }

  void WriteFile(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  void WriteCpu(int id, const std::string& siblings, const std::string& shares_l3) {
    const std::string cpu = absl::StrCat("sys/devices/system/cpu/cpu", id, "/");
    WriteFile(cpu + "topology/thread_siblings_list", siblings);
    // As Linux numbers them: the first level's two, the second, the third.
    const char* const types[] = {"Data", "Instruction", "Unified", "Unified"};
    for (int index = 0; index < 4; ++index) {
      const std::string cache = absl::StrCat(cpu, "cache/index", index, "/");
      WriteFile(cache + "level", std::to_string(index < 2 ? 1 : index));
      WriteFile(cache + "type", types[index]);
      WriteFile(cache + "shared_cpu_list", index < 3 ? siblings : shares_l3);
    }
  }
  // Cores of one thread, `cores_per_l3` in a cluster.
  void WriteCpus(int count, int cores_per_l3) {
    WriteFile("sys/devices/system/cpu/online", absl::StrCat("0-", count - 1));
    for (int id = 0; id < count; ++id) {
      const int first = id / cores_per_l3 * cores_per_l3;
      WriteCpu(id, std::to_string(id), absl::StrCat(first, "-", first + cores_per_l3 - 1));
    }
  }
  void WriteNode(int node, const std::string& cpus, const std::string& distance) {
    const std::string dir = absl::StrCat("sys/devices/system/node/node", node, "/");
    WriteFile(dir + "cpulist", cpus);
    WriteFile(dir + "distance", distance);
  }
  void WriteNodes(const std::string& online, const std::string& with_memory) {
    WriteFile("sys/devices/system/node/online", online);
    WriteFile("sys/devices/system/node/has_memory", with_memory);
  }
  void Allow(const std::string& cpus, const std::string& nodes) {
    WriteFile("proc/self/status",
              absl::StrCat("Name:\tmea\nCpus_allowed:\tff\nCpus_allowed_list:\t", cpus,
                           "\nMems_allowed_list:\t", nodes));
  }
  void WriteTwoSockets() {  // of 64 cores, with one cache each
    WriteCpus(128, 64);
    WriteNodes("0-1", "0-1");
    WriteNode(0, "0-63", "10 21");
    WriteNode(1, "64-127", "21 10");
  }
  // As the files are now, for Plan and Refusal.
  const Topology& Read() { return topology_ = ReadTopology(root_); }
  ThreadPlan Plan(const std::string& affinity = "auto", int num_threads = 0,
                  int usable_cpus = 1 << 20) const {
    return PlanThreads(topology_, affinity, num_threads, usable_cpus).value();
  }
  std::string Refusal(const std::string& affinity, int num_threads = 0) const {
    return std::string(PlanThreads(topology_, affinity, num_threads, 64).status().message());
  }

  const fs::path root_;
  Topology topology_;
};

std::vector<int> ThreadsPerCluster(const ThreadPlan& plan) {
  std::vector<int> counts(plan.num_clusters());
  for (const ThreadPlan::Thread& thread : plan.threads) ++counts[thread.cluster];
  return counts;
}

TEST_F(TopologyTest, OneNodeIsOneClusterWhereThreadsRunAnywhere) {
  WriteCpus(8, 8);
  WriteNodes("0", "0");
  WriteNode(0, "0-7", "10");
  const Topology topology = Read();
  ASSERT_EQ(topology.cpus.size(), 8u);
  EXPECT_EQ(topology.cpus[5], (Cpu{.id = 5, .core = 5, .cluster = 0, .node = 0}));
  EXPECT_EQ(topology.memory_nodes, std::vector<int>{0});
  const ThreadPlan plan = Plan();
  EXPECT_EQ(ThreadsPerCluster(plan), std::vector<int>{8});
  for (const auto& thread : plan.threads) EXPECT_TRUE(thread.cpus.empty());
}

TEST_F(TopologyTest, TwoSocketsAreTwoClustersWithTheirOwnMemory) {
  WriteTwoSockets();
  EXPECT_EQ(Read().memory_nodes, (std::vector<int>{0, 1}));
  const ThreadPlan plan = Plan();
  EXPECT_EQ(ThreadsPerCluster(plan), (std::vector<int>{64, 64}));
  EXPECT_EQ(plan.threads[63].node, 0);
  EXPECT_EQ(plan.threads[64].node, 1);
  ASSERT_EQ(plan.threads[64].cpus.size(), 64u);
  EXPECT_EQ(plan.threads[64].cpus.front(), 64);
  EXPECT_EQ(plan.threads[64].cpus.back(), 127);
}

TEST_F(TopologyTest, ChipletsAreClustersAndEveryOneGetsItsShare) {
  WriteCpus(128, 8);
  WriteNodes("0", "0");
  WriteNode(0, "0-127", "10");
  Read();
  EXPECT_EQ(ThreadsPerCluster(Plan()), std::vector<int>(16, 8));
  EXPECT_EQ(ThreadsPerCluster(Plan("auto", 64)), std::vector<int>(16, 4));
  EXPECT_EQ(Plan("auto", 64).threads[4].cpus, (std::vector<int>{8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(ThreadsPerCluster(Plan("auto", 256)), std::vector<int>(16, 16));
  // A quota: the threads spread all the same.
  EXPECT_EQ(ThreadsPerCluster(Plan("auto", 0, 32)), std::vector<int>(16, 2));
  // Clusters of one thread are none.
  EXPECT_EQ(ThreadsPerCluster(Plan("auto", 16)), std::vector<int>{16});
  EXPECT_EQ(ThreadsPerCluster(Plan("off")), std::vector<int>{128});
}

TEST_F(TopologyTest, TwoThreadsOfACoreAreOneThreadOfOurs) {
  WriteFile("sys/devices/system/cpu/online", "0-7");
  for (int id = 0; id < 8; ++id) {
    WriteCpu(id, absl::StrCat(id % 4, ",", id % 4 + 4), id % 4 < 2 ? "0-1,4-5" : "2-3,6-7");
  }
  EXPECT_EQ(Read().num_cores(), 4);
  const ThreadPlan plan = Plan();
  EXPECT_EQ(ThreadsPerCluster(plan), (std::vector<int>{2, 2}));
  EXPECT_EQ(plan.threads[0].cpus, (std::vector<int>{0, 4, 1, 5}));
  EXPECT_EQ(Plan("off").num_threads(), 4);
  // What may be used of a core is one thread, too.
  Allow("4,1,5,7", "0");
  Read();
  EXPECT_EQ(Plan().num_threads(), 3);
}

TEST_F(TopologyTest, OfflineAndForbiddenProcessorsAreLeftOut) {
  WriteTwoSockets();
  WriteFile("sys/devices/system/cpu/online", "0-1,60-69,127");
  Read();
  EXPECT_EQ(ThreadsPerCluster(Plan()), (std::vector<int>{6, 7}));
  Allow("0-61", "0-1");
  Read();
  EXPECT_EQ(ThreadsPerCluster(Plan()), std::vector<int>{4});
  EXPECT_EQ(Refusal("0,62"), "--cpu-affinity 0,62: processor 62 is none that this program may use");
}

TEST_F(TopologyTest, ANodeWithoutMemoryUsesItsNearest) {
  WriteCpus(12, 4);
  WriteNodes("0,2-3", "0,3");
  WriteNode(0, "0-3", "10 20 30");
  WriteNode(2, "4-7", "20 10 12");
  WriteNode(3, "8-11", "30 12 10");
  std::set<std::pair<int, int>> nodes;
  for (const Cpu& cpu : Read().cpus) nodes.insert({cpu.cluster, cpu.node});
  EXPECT_EQ(nodes, (std::set<std::pair<int, int>>{{0, 0}, {4, 3}, {8, 3}}));
  EXPECT_EQ(ThreadsPerCluster(Plan()), (std::vector<int>{4, 4, 4}));
  // Memory that the process may not use is none.
  Allow("0-11", "0");
  EXPECT_EQ(Read().memory_nodes, std::vector<int>{0});
  for (const Cpu& cpu : Read().cpus) EXPECT_EQ(cpu.node, 0);
}

TEST_F(TopologyTest, ProcessorsThatAppearAsSocketsOfTheirOwnAreOneCluster) {
  WriteCpus(8, 1);
  Read();
  EXPECT_EQ(ThreadsPerCluster(Plan()), std::vector<int>{8});
  EXPECT_TRUE(Plan().threads[3].cpus.empty());
}

TEST_F(TopologyTest, AListPinsOneThreadToEachProcessor) {
  WriteTwoSockets();
  Read();
  const ThreadPlan plan = Plan("66,0-2,64-65");
  EXPECT_EQ(ThreadsPerCluster(plan), (std::vector<int>{3, 3}));
  std::vector<int> cpus;
  for (const auto& thread : plan.threads) {
    ASSERT_EQ(thread.cpus.size(), 1u);
    cpus.push_back(thread.cpus[0]);
  }
  EXPECT_EQ(cpus, (std::vector<int>{0, 1, 2, 64, 65, 66}));
  EXPECT_EQ(Plan("0-3", 4).num_threads(), 4);
  EXPECT_EQ(Refusal("0-3", 2), "--threads 2 with --cpu-affinity 0-3, which is 4 processors");
  EXPECT_EQ(Refusal("0-3,2"), "--cpu-affinity 0-3,2 names processor 2 twice");
  for (const char* nonsense :
       {"", "x", "0-", "3-1", "0,,1", "-1", "0 1", "99999999999", "0-99999"}) {
    EXPECT_EQ(Refusal(nonsense), absl::StrCat("--cpu-affinity '", nonsense,
                                              "' is not auto, off, or a list of processors like "
                                              "0-15,32-47"));
  }
}

TEST_F(TopologyTest, AMachineThatSaysNothingIsOneCluster) {
  const Topology topology = Read();
  EXPECT_GE(topology.cpus.size(), 1u);
  EXPECT_EQ(topology.memory_nodes, std::vector<int>{0});
  EXPECT_EQ(Plan().num_clusters(), 1);
}

TEST(ThisMachinesTopologyTest, HasWhatTheProcessMayUse) {
  const Topology topology = ReadTopology();
  EXPECT_GE(topology.cpus.size(), 1u);
  EXPECT_TRUE(PlanThreads(topology, "auto", 0, 1 << 20).ok());
  EXPECT_TRUE(PlanThreads(topology, std::to_string(topology.cpus[0].id), 0, 1).ok());
}

}  // namespace
}  // namespace mea
