// mbarriers, bulk copies and wgmma in the emulator: operand layouts as CuTe writes them down, and
// each fault that must show.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/wgmma.h"
#include "tests/simt/device_vector.h"
#include "tests/simt/machine.h"

namespace mea::cuda {
namespace {

using simt::DeviceVector;

template <class... P>
void RunBlock(int num_threads, int shared_bytes, void (*kernel)(P...),
              std::type_identity_t<P>... params) {
  const LaunchConfig config = {
      .grid = 1, .block = static_cast<unsigned>(num_threads), .shared_bytes = shared_bytes};
  ASSERT_EQ(Launch(config, kernel, params...), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

template <class Fails>
int CountSeeds(int num_seeds, Fails fails) {
  int count = 0;
  for (int seed = 1; seed <= num_seeds; ++seed) {
    simt::SetSeed(static_cast<uint64_t>(seed));
    count += fails();
  }
  simt::SetSeed(1);
  return count;
}

int Thread() { return static_cast<int>(threadIdx.x); }

// ---- mbarriers and bulk copies.

constexpr int kCopyBytes = 1024;

enum class CopyFault {
  kNone,
  kNoWait,
  kNoExpect,
  kNoFence,
  kOverwritten,
  kTooManyBytes,
  kUnaligned
};

void CopyByBulk(const std::byte* in, uint32_t* out, CopyFault fault) {
  std::byte* box = DynamicShared();
  auto* barrier = reinterpret_cast<MBarrier*>(box + kCopyBytes);
  if (Thread() == 0) {
    Init(barrier, 1);
    if (fault != CopyFault::kNoFence) FenceInit();
    if (fault == CopyFault::kOverwritten) std::memset(barrier, 0, 8);
  }
  SyncThreads();
  if (Thread() == 0) {
    if (fault == CopyFault::kNoExpect) {
      Arrive(barrier);
    } else {
      ArriveExpect(barrier, kCopyBytes);
    }
    BulkCopy(box, in + (fault == CopyFault::kUnaligned ? 8 : 0), kCopyBytes / 2, barrier);
    BulkCopy(box + kCopyBytes / 2, in + kCopyBytes / 2,
             fault == CopyFault::kTooManyBytes ? kCopyBytes : kCopyBytes / 2, barrier);
  }
  if (fault != CopyFault::kNoWait) Wait(barrier, 0);
  for (int i = Thread(); i < kCopyBytes / 4; i += static_cast<int>(blockDim.x)) {
    out[i] = reinterpret_cast<uint32_t*>(box)[i];
  }
}

class BulkCopyTest : public testing::Test {
 protected:
  BulkCopyTest() : values_(kCopyBytes / 4) { std::iota(values_.begin(), values_.end(), 1u); }

  std::vector<uint32_t> Run(CopyFault fault) const {
    DeviceVector<uint32_t> in(values_), out(values_.size());
    RunBlock(64, kCopyBytes + 16, CopyByBulk, reinterpret_cast<const std::byte*>(in.data()),
             out.data(), fault);
    return out.ToHost();
  }

  std::vector<uint32_t> values_;
};
using BulkCopyDeathTest = BulkCopyTest;

TEST_F(BulkCopyTest, LandsBeforeTheWaitReturns) {
  EXPECT_EQ(CountSeeds(10, [&] { return Run(CopyFault::kNone) != values_; }), 0);
}

TEST_F(BulkCopyTest, HasNotLandedWithoutAWait) {
  EXPECT_EQ(Run(CopyFault::kNoWait), std::vector<uint32_t>(kCopyBytes / 4, ~0u));
}

TEST_F(BulkCopyTest, WithoutAnnouncedBytesTheWaitReturnsTooEarly) {
  EXPECT_GT(CountSeeds(10, [&] { return Run(CopyFault::kNoExpect) != values_; }), 5);
}

TEST_F(BulkCopyDeathTest, MisuseAborts) {
  EXPECT_DEATH(Run(CopyFault::kNoFence), "initialised without FenceInit");
  EXPECT_DEATH(Run(CopyFault::kOverwritten), "the mbarrier was overwritten");
  EXPECT_DEATH(Run(CopyFault::kTooManyBytes), "not in the 1040 of shared memory");
  EXPECT_DEATH(Run(CopyFault::kUnaligned), "not aligned to 16");
}

TEST_F(BulkCopyDeathTest, TrapsOnAnOlderDevice) {
  simt::ResetMachine({.major = 8});
  EXPECT_DEATH(Run(CopyFault::kNone), "trap: this device has no mbarriers");
  simt::ResetMachine();
}

// A ring of two slots and one producer warp; each round's number goes through a slot.
void Ring(const uint4* in, uint4* out, int num_rounds, bool waits_for_empty) {
  std::byte* shared = DynamicShared();
  auto* full = reinterpret_cast<MBarrier*>(shared + 32);
  MBarrier* empty = full + 2;
  if (Thread() == 0) {
    for (int i = 0; i < 2; ++i) {
      Init(full + i, 1);
      Init(empty + i, 2);  // consumer warps
    }
    FenceInit();
  }
  SyncThreads();
  for (int round = 0; round < num_rounds; ++round) {
    const int slot = round % 2, parity = round / 2 % 2;
    if (Thread() == 64) {
      if (waits_for_empty) Wait(empty + slot, parity ^ 1);
      ArriveExpect(full + slot, 16);
      BulkCopy(shared + 16 * slot, in + round, 16, full + slot);
    } else if (Thread() < 64) {
      Wait(full + slot, parity);
      SyncWarp();
      if (Thread() % 32 == 5) {
        out[2 * round + Thread() / 32] = reinterpret_cast<uint4*>(shared)[slot];
      }
      SyncWarp();
      if (Thread() % 32 == 0) Arrive(empty + slot);
    }
  }
}

TEST(MBarrierTest, ARingPassesEveryRoundOn) {
  constexpr int kRounds = 9;
  std::vector<uint32_t> in(4 * kRounds), want;
  std::iota(in.begin(), in.end(), 0u);
  for (int i = 0; i < 2 * kRounds; ++i) {
    want.insert(want.end(), in.begin() + i / 2 * 4, in.begin() + i / 2 * 4 + 4);
  }
  DeviceVector<uint32_t> device_in(in), out(8 * kRounds);
  EXPECT_EQ(CountSeeds(20,
                       [&] {
                         RunBlock(96, 64, Ring, reinterpret_cast<const uint4*>(device_in.data()),
                                  reinterpret_cast<uint4*>(out.data()), kRounds, true);
                         return out.ToHost() != want;
                       }),
            0);
}

TEST(MBarrierDeathTest, ARingThatOverrunsItsConsumersAborts) {
  DeviceVector<uint32_t> in(4 * 9), out(8 * 9);
  EXPECT_DEATH(RunBlock(96, 64, Ring, reinterpret_cast<const uint4*>(in.data()),
                        reinterpret_cast<uint4*>(out.data()), 9, false),
               "deadlock|arrivals|more");
}

void WaitForever() {
  auto* barrier = reinterpret_cast<MBarrier*>(DynamicShared());
  if (Thread() == 0) Init(barrier, 2);
  SyncThreads();
  if (Thread() == 7) Arrive(barrier);
  if (Thread() == 9) Wait(barrier, 0);
  SyncThreads();
}

TEST(MBarrierDeathTest, ADeadlockNamesTheBarrier) {
  EXPECT_DEATH(RunBlock(32, 16, WaitForever),
               "31 lanes at SyncThreads .*lane 9 at Wait for an mbarrier, its byte 1024");
}

// ---- wgmma. Operands are laid out as CuTe's canonical layouts say, in 16-byte units before
// Swizzle<3,4,3>: K-major ((8, m), 2) : ((8, stride), 1), MN-major ((8, n), (8, 2)) : ((1,
// leading), (8, stride)).

int Swizzled(int byte) { return byte ^ (byte >> 3 & 0x70); }

int KMajorByte(int row, int k, int stride) {
  return Swizzled(row % 8 * 128 + row / 8 * stride + k / 8 * 16) + k % 8 * 2;
}
int MnMajorByte(int n, int k, int leading, int stride) {
  return Swizzled(n % 64 / 8 * 16 + n / 64 * leading + k % 8 * 128 + k / 8 * stride) + n % 8 * 2;
}

// CuTe's CLayout_64xN and ALayout_64x16: the (row, column) of thread t's value v, column-major
// by 64.
int CuteOffset(int t, int v) {
  return t % 4 * 128 + t / 4 % 8 + t / 32 * 16 + v % 2 * 64 + v / 2 % 2 * 8 + v / 4 * 512;
}

constexpr int kN = 128;
constexpr int kStride = 2048;    // every second kilobyte
constexpr int kLeading = 12288;  // of MN-major B: room for its two strides
constexpr int kABytes = 8 * kStride;
constexpr int kSharedBytes = kABytes + 16 * kStride;

enum class Fault {
  kNone,
  kNoProxyFence,
  kNoFence,
  kNoCommit,
  kReadEarly,
  kWriteEarly,
  kRecycleEarly,
  kWarpsDiffer,
  kMisplaced,
};

struct ProductParams {
  const Bf16* a;  // [64, 16]
  const Bf16* b;  // [kN, 16]
  float* d;       // [64, kN], d += a b^T twice over
  bool a_in_registers;
  Fault fault;
};

void StoreOperands(const ProductParams& p, std::byte* a, std::byte* b) {
  for (int i = Thread(); i < 64 * 16; i += 128) {
    std::memcpy(a + KMajorByte(i / 16, i % 16, kStride), p.a + i, 2);
  }
  for (int i = Thread(); i < kN * 16; i += 128) {
    const int n = i / 16, k = i % 16;
    std::memcpy(
        b + (p.a_in_registers ? MnMajorByte(n, k, kLeading, kStride) : KMajorByte(n, k, kStride)),
        p.b + i, 2);
  }
  if (p.fault != Fault::kNoProxyFence) FenceProxyAsync();
  SyncThreads();
}

void Multiply(ProductParams p) {
  std::byte* shared_a = DynamicShared();
  std::byte* shared_b = shared_a + kABytes;
  StoreOperands(p, shared_a, shared_b);
  float d[kN / 2];
  uint32_t a_registers[4] = {};
  for (int v = 0; v < 8; ++v) {
    const int offset = CuteOffset(Thread(), v);
    a_registers[v / 2] |= uint32_t{p.a[offset % 64 * 16 + offset / 64].bits} << 16 * (v % 2);
  }
  for (int v = 0; v < kN / 2; ++v) {
    const int offset = CuteOffset(Thread(), v);
    d[v] = p.d[offset % 64 * kN + offset / 64];
  }
  const MatrixDescriptor a =
      Descriptor(shared_a + (p.fault == Fault::kMisplaced ? 128 : 0), 0, kStride);
  const MatrixDescriptor b = Descriptor(shared_b, p.a_in_registers ? kLeading : 0, kStride);
  if (p.fault != Fault::kNoFence) WgmmaFence(d);
  const bool first = p.fault != Fault::kWarpsDiffer || Thread() < 32;
  for (int i = 0; i < 2; ++i) {
    if (p.a_in_registers) {
      WgmmaRS64<kN>(d, a_registers, b, true);
    } else {
      WgmmaSS64<kN>(d, a, b, first);
    }
    if (i == 0 && p.fault == Fault::kWriteEarly) d[3] = 0;
  }
  if (p.fault != Fault::kNoCommit) WgmmaCommit();
  if (p.fault == Fault::kRecycleEarly) {
    SyncThreads();  // all have issued
    shared_b[Thread() * 16] = std::byte{1};
  }
  if (p.fault != Fault::kReadEarly) WgmmaWait<0>(d);
  for (int v = 0; v < kN / 2; ++v) {
    const int offset = CuteOffset(Thread(), v);
    p.d[offset % 64 * kN + offset / 64] = d[v];
  }
  if (p.fault == Fault::kReadEarly) WgmmaWait<0>(d);
}

class WgmmaTest : public testing::TestWithParam<bool> {
 protected:
  WgmmaTest() : a_(64 * 16), b_(kN * 16), want_(64 * kN, 1.0f) {
    std::mt19937 random(5);
    for (Bf16& x : a_) x = ToBf16(static_cast<float>(random() % 31) - 15);
    for (Bf16& x : b_) x = ToBf16(static_cast<float>(random() % 31) - 15);
    for (int i = 0; i < 64 * kN * 16; ++i) {
      const int m = i / (kN * 16), n = i / 16 % kN, k = i % 16;
      want_[m * kN + n] += 2 * ToFloat(a_[m * 16 + k]) * ToFloat(b_[n * 16 + k]);
    }
  }

  std::vector<float> Run(Fault fault) const {
    DeviceVector<Bf16> a(a_), b(b_);
    DeviceVector<float> d(std::vector<float>(64 * kN, 1.0f));
    RunBlock(128, kSharedBytes, Multiply,
             ProductParams{a.data(), b.data(), d.data(), GetParam(), fault});
    return d.ToHost();
  }

  std::vector<Bf16> a_, b_;
  std::vector<float> want_;
};
using WgmmaDeathTest = WgmmaTest;

INSTANTIATE_TEST_SUITE_P(AInShared, WgmmaTest, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(AInRegisters, WgmmaTest, testing::Values(true));
INSTANTIATE_TEST_SUITE_P(AInShared, WgmmaDeathTest, testing::Values(false));

TEST_P(WgmmaTest, FragmentsAndOperandsLieAsCuteSays) {
  EXPECT_EQ(CountSeeds(10, [&] { return Run(Fault::kNone) != want_; }), 0);
}

TEST_P(WgmmaTest, AccumulatorsAreNaNUntilTheWait) {
  for (const float x : Run(Fault::kReadEarly)) ASSERT_TRUE(std::isnan(x));
}

TEST_P(WgmmaTest, AnOperandOverwrittenBeforeTheWaitShows) {
  EXPECT_GT(CountSeeds(10, [&] { return Run(Fault::kRecycleEarly) != want_; }), 5);
}

TEST_P(WgmmaDeathTest, MisuseAborts) {
  EXPECT_DEATH(Run(Fault::kNoProxyFence), "without FenceProxyAsync");
  EXPECT_DEATH(Run(Fault::kNoFence), "no WgmmaFence");
  EXPECT_DEATH(Run(Fault::kNoCommit), "a thread ended with wgmma under way");
  EXPECT_DEATH(Run(Fault::kWriteEarly), "written before its WgmmaWait");
  EXPECT_DEATH(Run(Fault::kWarpsDiffer), "issue different products");
  EXPECT_DEATH(Run(Fault::kMisplaced), "does not start in the first of eight swizzled rows");
}

}  // namespace
}  // namespace mea::cuda
