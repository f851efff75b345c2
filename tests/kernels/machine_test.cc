// Machines made of files: what a process may take of each.
#include "kernels/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace mea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGiB = int64_t{1} << 30;

// 24 GiB, 20 of them available, 8 processors, all allowed, no control groups.
class MachineTest : public ::testing::Test {
 protected:
  MachineTest()
      : root_(fs::path(::testing::TempDir()) / ("mea_machine_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
    Write("proc/meminfo",
          "MemTotal:       25165824 kB\nMemFree:         1 kB\nMemAvailable:   20971520 kB\n");
    Write("sys/devices/system/cpu/online", "0-3,8-11\n");
    Write("proc/self/status", "Name:\tmea\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8-11\n");
  }
  ~MachineTest() override { fs::remove_all(root_); }

  void Write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  // The process is in `group` of v2, mounted where systemd mounts it, `top` being what is seen
  // there.
  void UseV2(const std::string& group, const std::string& top = "/") {
    Write("proc/self/cgroup", "0::" + group + "\n");
    Write("proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/vda rw\n29 22 0:26 " + top +
                                     " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  MachineLimits Read() const { return ReadMachineLimits(root_); }

  const fs::path root_;
};

TEST_F(MachineTest, WithoutControlGroupsTheMachineIsTheLimit) {
  const MachineLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes, 24 * kGiB);
  EXPECT_EQ(limits.memory_source, "RAM");
  EXPECT_EQ(limits.available_bytes, 20 * kGiB);
  EXPECT_EQ(limits.cpus, 8);
  EXPECT_EQ(limits.cpus_source, "processors");
}

TEST_F(MachineTest, AffinityLimitsTheThreads) {
  Write("proc/self/status", "Cpus_allowed_list:\t2\nMems_allowed_list:\t0\n");
  EXPECT_EQ(Read().cpus, 1);
  EXPECT_EQ(Read().cpus_source, "affinity");
}

TEST_F(MachineTest, TheLeastOfAllGroupsAboveCounts) {
  UseV2("/pod/web/mea");
  Write("sys/fs/cgroup/pod/memory.max", "1073741824\n");
  Write("sys/fs/cgroup/pod/memory.current", "0\n");
  Write("sys/fs/cgroup/pod/web/memory.max", "max\n");
  Write("sys/fs/cgroup/pod/web/mea/memory.max", "4294967296\n");
  Write("sys/fs/cgroup/pod/web/cpu.max", "150000 100000\n");
  Write("sys/fs/cgroup/pod/web/mea/cpu.max", "max 100000\n");
  const MachineLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes, kGiB);
  EXPECT_EQ(limits.memory_source, "memory.max of cgroup /pod");
  EXPECT_EQ(limits.available_bytes, kGiB);
  EXPECT_EQ(limits.cpus, 2);  // one and a half
  EXPECT_EQ(limits.cpus_source, "cpu.max of cgroup /pod/web");
}

TEST_F(MachineTest, AQuotaBelowOneProcessorIsOneThread) {
  UseV2("/a");
  Write("sys/fs/cgroup/a/cpu.max", "20000 100000\n");
  EXPECT_EQ(Read().cpus, 1);
}

TEST_F(MachineTest, PagesOfFilesCountAsAvailable) {
  UseV2("/a");
  Write("sys/fs/cgroup/a/memory.max", "1073741824\n");
  Write("sys/fs/cgroup/a/memory.current", "1000000000\n");
  Write("sys/fs/cgroup/a/memory.stat",
        "anon 100000000\ninactive_file 600000000\nactive_file 300000000\n");
  EXPECT_EQ(Read().available_bytes, kGiB - 100'000'000);
}

TEST_F(MachineTest, WhatMakesAProcessWaitForMemoryLimitsItToo) {
  UseV2("/a");
  Write("sys/fs/cgroup/a/memory.max", "4294967296\n");
  Write("sys/fs/cgroup/a/memory.high", "2147483648\n");
  EXPECT_EQ(Read().memory_bytes, 2 * kGiB);
  EXPECT_EQ(Read().memory_source, "memory.high of cgroup /a");
}

TEST_F(MachineTest, EveryControllerOfV1HasItsOwnGroups) {
  Write("proc/self/cgroup", "4:memory:/docker/m\n2:cpu,cpuacct:/docker/c\n0::/\n");
  Write("proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu\\040quota rw - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/fs/cgroup/memory/docker/m/memory.limit_in_bytes", "1073741824\n");
  Write("sys/fs/cgroup/memory/docker/m/memory.usage_in_bytes", "500000000\n");
  Write("sys/fs/cgroup/memory/docker/m/memory.stat",
        "inactive_file 7\ntotal_inactive_file 200000000\ntotal_active_file 100000000\n");
  Write("sys/fs/cgroup/cpu quota/docker/cpu.cfs_quota_us", "300000\n");
  Write("sys/fs/cgroup/cpu quota/docker/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/cpu quota/docker/c/cpu.cfs_quota_us", "-1\n");
  const MachineLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes, kGiB);
  EXPECT_EQ(limits.memory_source, "memory.limit_in_bytes of cgroup /docker/m");
  EXPECT_EQ(limits.available_bytes, kGiB - 200'000'000);
  EXPECT_EQ(limits.cpus, 3);
  EXPECT_EQ(limits.cpus_source, "cpu.cfs_quota_us of cgroup /docker");
}

TEST_F(MachineTest, AContainerSeesItsOwnGroupAtTheMountPoint) {
  // Without a namespace of its own the path is the machine's; with one it may lead out.
  for (const auto& [group, top] :
       {std::pair("/docker/1", "/docker/1"), std::pair("/", "/"), std::pair("/../other", "/")}) {
    UseV2(group, top);
    Write("sys/fs/cgroup/memory.max", "1073741824\n");
    EXPECT_EQ(Read().memory_bytes, kGiB) << group;
    EXPECT_EQ(Read().memory_source, "memory.max of cgroup /") << group;
  }
}

TEST_F(MachineTest, AddressesLimitMemory) {
  Write("proc/self/status", "VmSize:\t  262144 kB\nCpus_allowed_list:\t0-7\n");
  Write("proc/self/limits",
        "Max cpu time              unlimited            unlimited            seconds\n"
        "Max address space         1073741824           unlimited            bytes\n");
  EXPECT_EQ(Read().memory_bytes, kGiB);
  EXPECT_EQ(Read().memory_source, "ulimit -v");
  EXPECT_EQ(Read().available_bytes, kGiB - (int64_t{256} << 20));
  Write("proc/self/limits", "Max address space         unlimited            unlimited   bytes\n");
  EXPECT_EQ(Read().memory_source, "RAM");
}

TEST_F(MachineTest, AGroupThatAllowsMoreThanThereIsDoesNotLimit) {
  UseV2("/a");
  Write("sys/fs/cgroup/a/memory.max", "1099511627776\n");
  Write("sys/fs/cgroup/a/cpu.max", "6400000 100000\n");
  EXPECT_EQ(Read().memory_bytes, 24 * kGiB);
  EXPECT_EQ(Read().available_bytes, 20 * kGiB);
  EXPECT_EQ(Read().cpus, 8);
}

TEST_F(MachineTest, FilesOfNoUseDoNotLimit) {
  UseV2("/a");
  for (const char* nonsense : {"", "\n", "none", "-", "max max", "0 0", "99999999999999999999"}) {
    Write("sys/fs/cgroup/a/memory.max", "max");
    Write("sys/fs/cgroup/a/cpu.max", nonsense);
    Write("proc/self/status", std::string("Cpus_allowed_list:\t") + nonsense);
    Write("proc/self/cgroup", "0::/a\n" + std::string(nonsense) + "\n::\n");
    EXPECT_EQ(Read().memory_bytes, 24 * kGiB) << nonsense;
    EXPECT_GE(Read().cpus, 1) << nonsense;
  }
  fs::remove_all(root_);
  EXPECT_GT(Read().memory_bytes, 0);
  EXPECT_GE(Read().cpus, 1);
}

TEST_F(MachineTest, TheProcessorHasTheNameThatTheKernelGivesIt) {
  EXPECT_EQ(ProcessorName(root_), "unknown");
  Write("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9B14\ncpu MHz\t: 2600.0\n");
  EXPECT_EQ(ProcessorName(root_), "AMD EPYC 9B14");
}

TEST(ThisMachineTest, HasMemoryAndProcessors) {
  const MachineLimits limits = ReadMachineLimits();
  EXPECT_GT(limits.memory_bytes, 0);
  EXPECT_LE(limits.available_bytes, limits.memory_bytes);
  EXPECT_EQ(UsableCpus(), limits.cpus);
}

}  // namespace
}  // namespace mea
