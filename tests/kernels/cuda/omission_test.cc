// That the emulator notices what a kernel of attention forgets: each of its fences, waits, releases
// and announcements is left out in turn, and then a run aborts, hangs or has another result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <ostream>

#include "tests/kernels/cuda/attention_harness.h"
#include "tests/simt/machine.h"
#include "tests/simt/omission.h"

namespace mea::cuda {
namespace {

struct Subject {
  const char* name;
  RunOptions options;
  int head_dim;
  int q_len;
  // Calls that may be left out unnoticed, and why.
  std::vector<std::string> unnoticed;
};
void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }

class OmissionTest : public ::testing::TestWithParam<Subject> {};

// Whether `run` in a process of its own ends with true.
bool HoldsInAChild(const std::function<bool()>& run) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // it waits for what will not come
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(2);
    _exit(run() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_P(OmissionTest, EveryCallIsMissed) {
  const Subject& subject = GetParam();
  // More tiles than slots, ends inside tiles, more than one unit a block.
  const CudaAttentionData data({.q_heads = 4,
                                .kv_heads = 2,
                                .key_heads = 2,
                                .value_heads = 2,
                                .head_dim = subject.head_dim,
                                .key_mix = subject.q_len == 1,
                                .value_mix = subject.q_len == 1,
                                .page_size = 64,
                                .sequences = {{.kv_len = 90, .q_len = subject.q_len},
                                              {.kv_len = 700, .q_len = subject.q_len},
                                              {.kv_len = 260, .q_len = subject.q_len}}});
  simt::OmitCalls("");
  const Tensor expected = data.Run(subject.options);
  const std::vector<std::string> calls = simt::TakeRecordedCalls();
  ASSERT_GT(calls.size(), 3);
  std::vector<std::string> unnoticed;
  for (const std::string& call : calls) {
    if (call.starts_with("SyncWarp")) continue;  // lanes converge: the emulator's always do
    const bool is_missed = !HoldsInAChild([&] {
      simt::OmitCalls(call);
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        simt::SetSeed(seed);
        if (!BitwiseEqual(data.Run(subject.options).view(), expected.view())) return false;
      }
      return true;
    });
    if (!is_missed) unnoticed.push_back(call);
  }
  EXPECT_THAT(unnoticed, ::testing::IsSubsetOf(subject.unnoticed));
}

RunOptions Decode(DecodeKernel kernel, int num_sms = 1) {
  return {.kernel = kernel, .num_sms = num_sms};
}
RunOptions Prefill(PrefillKernel kernel) { return {.prefill_kernel = kernel, .num_sms = 1}; }

// One warp makes a list of few rows and blocks.
const std::vector<std::string> kOfDecode = {"SyncThreads in ExclusiveSums",
                                            "SyncThreads in ListRows"};
const std::vector<std::string> kOfDecodeWgmma = {
    "SyncThreads in ExclusiveSums", "SyncThreads in ListRows",
    // Products wait for all warps here. On a device they need not.
    "SyncThreads in Begin", "SyncThreads in Begin 2",
    // When a slot is filled again, all warps have released it and begun products with the next one.
    "Wait in WaitEmpty"};
const std::vector<std::string> kOfPrefillWgmma = {
    // The first warp has made the barriers before another gets to them.
    "SyncThreads in PrefillWgmma",
    // An order that is only faster.
    "Wait in WaitToIssue",
    // Between the fence before the scores and the product with the values no register is written.
    "WgmmaFence 4"};

INSTANTIATE_TEST_SUITE_P(
    Kernels, OmissionTest,
    ::testing::Values(
        Subject{"DecodeMma64", Decode(DecodeKernel::kMma, 40), 64, 1, kOfDecode},
        Subject{"DecodeMma128", Decode(DecodeKernel::kMma), 128, 1, kOfDecode},
        Subject{"DecodeWgmma64", Decode(DecodeKernel::kWgmma), 64, 1, kOfDecodeWgmma},
        Subject{"DecodeWgmma128", Decode(DecodeKernel::kWgmma), 128, 1, kOfDecodeWgmma},
        Subject{"PrefillMma", Prefill(PrefillKernel::kMma), 64, 40, {}},
        Subject{"PrefillWgmma64", Prefill(PrefillKernel::kWgmma), 64, 40, kOfPrefillWgmma},
        Subject{"PrefillWgmma128", Prefill(PrefillKernel::kWgmma), 128, 40, kOfPrefillWgmma}),
    [](const auto& subject) { return subject.param.name; });

}  // namespace
}  // namespace mea::cuda
