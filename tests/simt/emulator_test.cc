// What the emulator promises to find, each with a kernel that has the fault, and the maps of the
// tensor-core fragments as the PTX ISA gives them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/device/async_copy.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mma.h"
#include "tests/simt/device_vector.h"
#include "tests/simt/machine.h"

namespace mea::cuda {
namespace {

using simt::DeviceVector;

// Runs one block to its end.
template <class... P>
void RunBlock(int num_threads, int shared_bytes, void (*kernel)(P...),
              std::type_identity_t<P>... params) {
  const LaunchConfig config = {
      .grid = 1, .block = static_cast<unsigned>(num_threads), .shared_bytes = shared_bytes};
  ASSERT_EQ(Launch(config, kernel, params...), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

// In how many of `num_seeds` seeds `fails` holds.
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
int Lane() { return Thread() % kWarpSize; }

// ---- Warps.

void Shuffles(int* out) {  // [7][32]
  const int lane = Lane();
  out[lane] = ShflXor(lane, 5);
  out[32 + lane] = Shfl(lane, (lane * 7) % 32);
  out[64 + lane] = ShflDown(lane, 3);
  out[96 + lane] = ShflUp(lane, 3);
  out[128 + lane] = static_cast<int>(Ballot(lane % 3 == 0));
  out[160 + lane] = static_cast<int>(ShflXor(static_cast<float>(lane), 1));
  out[192 + lane] = static_cast<int>(Shfl(static_cast<uint32_t>(lane), 31));
}

TEST(WarpTest, ShufflesAndBallots) {
  DeviceVector<int> out(224);
  RunBlock(32, 0, Shuffles, out.data());
  const std::vector<int> got = out.ToHost();
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(got[lane], lane ^ 5);
    EXPECT_EQ(got[32 + lane], lane * 7 % 32);
    EXPECT_EQ(got[64 + lane], lane + 3 < 32 ? lane + 3 : lane);
    EXPECT_EQ(got[96 + lane], lane >= 3 ? lane - 3 : lane);
    EXPECT_EQ(static_cast<uint32_t>(got[128 + lane]), thirds);
    EXPECT_EQ(got[160 + lane], lane ^ 1);
    EXPECT_EQ(got[192 + lane], 31);
  }
}

void DivergentShuffle() {
  if (Lane() < 16) {
    ShflXor(Lane(), 1);
  } else {
    ShflXor(Lane(), 1);
  }
}
void ShuffleOfHalfAWarp() {
  if (Lane() < 16) ShflXor(Lane(), 1);
}
void ShuffleAfterTheEndOfOthers() {
  if (Lane() >= 16) return;
  ShflXor(Lane(), 1);
}
void SyncThreadsInOneBranch() {
  if (Lane() == 0) SyncThreads();
}

TEST(WarpDeathTest, DivergenceAborts) {
  EXPECT_DEATH(RunBlock(32, 0, DivergentShuffle), "divergent warp: this thread is at ShflXor");
  EXPECT_DEATH(RunBlock(32, 0, ShuffleOfHalfAWarp), "ended");
  EXPECT_DEATH(RunBlock(32, 0, ShuffleAfterTheEndOfOthers), "ended");
  EXPECT_DEATH(RunBlock(32, 0, SyncThreadsInOneBranch), "ended");
}

void IndexOfEachThread(int* out) {  // [4 blocks][2 z][3 y][32 x]
  const int thread =
      static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  const int block = static_cast<int>(blockIdx.x + gridDim.x * blockIdx.y);
  SyncThreads();  // others run in between
  out[block * 192 + thread] =
      static_cast<int>(threadIdx.x + 100 * threadIdx.y + 1000 * threadIdx.z + 10000 * blockIdx.y);
}

TEST(BlockTest, EveryThreadHasItsIndex) {
  DeviceVector<int> out(4 * 192);
  ASSERT_EQ(Launch({.grid = dim3(2, 2), .block = dim3(32, 3, 2)}, IndexOfEachThread, out.data()),
            cudaSuccess);
  const std::vector<int> got = out.ToHost();
  for (int i = 0; i < 4 * 192; ++i) {
    const int t = i % 192;
    EXPECT_EQ(got[i], t % 32 + 100 * (t / 32 % 3) + 1000 * (t / 96) + 10000 * (i / 384));
  }
}

// ---- Barriers and shared memory.

void SumOfWarps(int* out, bool synchronise) {
  auto* sums = reinterpret_cast<int*>(DynamicShared());
  if (Lane() == 0) sums[Thread() / 32] = 1;
  if (synchronise) SyncThreads();
  if (Thread() == 0) *out = sums[0] + sums[1] + sums[2] + sums[3];
}

TEST(BlockTest, AMissingSyncThreadsShows) {
  const auto fails = [](bool synchronise) {
    return CountSeeds(20, [&] {
      DeviceVector<int> out(1);
      RunBlock(128, 16, SumOfWarps, out.data(), synchronise);
      return out.ToHost()[0] != 4;
    });
  };
  EXPECT_EQ(fails(true), 0);
  EXPECT_GE(fails(false), 10);
}

void ProducerAndConsumer(int* out) {  // warps 0, 1 produce for 2, 3; twice
  auto* box = reinterpret_cast<int*>(DynamicShared());
  const bool produces = Thread() < 64;
  for (int round = 0; round < 2; ++round) {
    if (produces) box[Thread()] = 10 * round + 1;
    NamedBarrier(1, 128);
    if (!produces) out[64 * round + Thread() - 64] = box[Thread() - 64];
    NamedBarrier(2, 128);
  }
  if (Thread() < 32) return;
  SyncThreads();  // of those that have not ended
}

TEST(BlockTest, NamedBarriersJoinSomeWarps) {
  DeviceVector<int> out(128);
  EXPECT_EQ(CountSeeds(10,
                       [&] {
                         RunBlock(128, 256, ProducerAndConsumer, out.data());
                         std::vector<int> want(128, 1);
                         std::fill(want.begin() + 64, want.end(), 11);
                         return out.ToHost() != want;
                       }),
            0);
}

void WaitForNobody() {
  if (Thread() < 32) {
    NamedBarrier(3, 64);
  } else {
    SyncThreads();
  }
}
void BarrierOfTwoSizes() { NamedBarrier(1, Thread() < 32 ? 64 : 96); }

TEST(BlockDeathTest, ADeadlockNamesWhoWaitsWhere) {
  EXPECT_DEATH(RunBlock(64, 0, WaitForNobody),
               "deadlock: every thread waits(.|\n)*warp 0: 32 lanes at NamedBarrier 3 .*emulator_"
               "test.cc(.|\n)*warp 1: 32 lanes at SyncThreads .*emulator_test.cc");
  EXPECT_DEATH(RunBlock(96, 0, BarrierOfTwoSizes), "this warp expects");
}

void ReadShared(uint32_t* out) {
  out[Thread()] = reinterpret_cast<uint32_t*>(DynamicShared())[Thread()];
  reinterpret_cast<uint32_t*>(DynamicShared())[Thread()] = 1;
}
void WriteBesideShared() { DynamicShared()[128] = std::byte{1}; }
void LoadMatrixBesideShared() {
  uint32_t r[4];
  LdMatrix4(r, DynamicShared() + 16 * Lane());
}

TEST(SharedMemoryTest, StartsAsNaNInEveryBlock) {
  DeviceVector<uint32_t> out(32);
  for (int i = 0; i < 2; ++i) {
    RunBlock(32, 128, ReadShared, out.data());
    EXPECT_EQ(out.ToHost(), std::vector<uint32_t>(32, ~0u));
  }
}

TEST(SharedMemoryDeathTest, AccessesOutsideAbort) {
  EXPECT_DEATH(RunBlock(32, 128, WriteBesideShared), "wrote beside the shared memory");
  EXPECT_DEATH(RunBlock(32, 256, LoadMatrixBesideShared), "not in the 256 of shared memory");
}

// ---- Device memory.

void WriteBeside(int* x) { x[5] = 1; }
void LoadUnaligned(const int* x) { LoadGlobal128(x + 1); }
void LoadBeyond(const int* x) { LoadGlobal128(x + 4); }

TEST(DeviceMemoryDeathTest, AccessesOutsideAbort) {
  DeviceVector<int> five(5), four(4);
  EXPECT_DEATH(RunBlock(32, 0, WriteBeside, five.data()), "wrote beside|AddressSanitizer");
  EXPECT_DEATH(RunBlock(32, 0, LoadUnaligned, five.data()), "not aligned to 16");
  EXPECT_DEATH(RunBlock(32, 0, LoadBeyond, four.data()), "not in one allocation");
  EXPECT_DEATH(four.data()[0] = 1, "host code touches device memory|AddressSanitizer");
}

// ---- cp.async.

// Two groups of one granule per thread; lanes of warp 1 get zeros.
void TwoGroups(const uint4* in, uint4* out, int wait) {
  auto* box = reinterpret_cast<uint4*>(DynamicShared());  // [2][64]
  const int t = Thread();
  CopyAsync16(box + t, in + t);
  CommitCopies();
  CopyAsync16Zfill(box + 64 + t, in + 64 + t, t < 32);
  CommitCopies();
  if (wait == 0) WaitCopies<0>();
  if (wait == 1) WaitCopies<1>();
  out[t] = box[t];
  out[64 + t] = box[64 + t];
}

TEST(CopyAsyncTest, LandsAtTheWaitThatGuaranteesIt) {
  std::vector<uint32_t> in(512), zeros_after(512);
  std::iota(in.begin(), in.end(), 0u);
  std::copy(in.begin(), in.begin() + 64 * 4 + 32 * 4, zeros_after.begin());
  DeviceVector<uint32_t> device_in(in), out(512);
  const auto run = [&](int wait) {
    RunBlock(64, 2048, TwoGroups, reinterpret_cast<const uint4*>(device_in.data()),
             reinterpret_cast<uint4*>(out.data()), wait);
    return out.ToHost();
  };
  EXPECT_EQ(run(0), zeros_after);
  std::vector<uint32_t> first_group(512, ~0u);
  std::copy_n(in.begin(), 256, first_group.begin());
  EXPECT_EQ(run(1), first_group);
  EXPECT_EQ(run(-1), std::vector<uint32_t>(512, ~0u));
}

// ---- Programmatic dependent launch.

void WriteAfterLettingNextStart(int* x) {
  WaitForPrevious();
  LetNextStart();
  x[Thread()] = Thread();
}
void CopyTo(const int* x, int* y, bool wait_first) {
  if (wait_first) WaitForPrevious();
  y[Thread()] = x[Thread()];
  if (!wait_first) WaitForPrevious();
}
void NeverWaits(int*) {}

TEST(OverlapTest, AReadBeforeWaitForPreviousShows) {
  std::vector<int> want(64);
  std::iota(want.begin(), want.end(), 0);
  for (const bool wait_first : {true, false}) {
    DeviceVector<int> x(64), y(64);
    const LaunchConfig config = {.grid = 1, .block = 64, .overlaps_previous = true};
    ASSERT_EQ(Launch(config, WriteAfterLettingNextStart, x.data()), cudaSuccess);
    ASSERT_EQ(Launch(config, CopyTo, x.data(), y.data(), wait_first), cudaSuccess);
    EXPECT_EQ(y.ToHost() == want, wait_first);
    EXPECT_EQ(x.ToHost(), want);
  }
}

TEST(OverlapDeathTest, AKernelThatNeverWaitsAborts) {
  DeviceVector<int> x(64);
  const auto run = [&] {
    const LaunchConfig config = {.grid = 1, .block = 64, .overlaps_previous = true};
    ASSERT_EQ(Launch(config, NeverWaits, x.data()), cudaSuccess);
    cudaDeviceSynchronize();
  };
  EXPECT_DEATH(run(), "no thread calls WaitForPrevious");
}

// ---- Fragments. The maps are those of the PTX ISA, "Matrix fragments for mma.m16n8k16", written
// for element i of a fragment where the emulator goes by registers.

void LoadMatrices(uint32_t* out, bool transposed) {  // [32][4]
  auto* shared = reinterpret_cast<uint16_t*>(DynamicShared());
  for (int i = Lane(); i < 256; i += 32) shared[i] = static_cast<uint16_t>(i);
  SyncThreads();
  uint32_t r[4];
  if (transposed) {
    LdMatrix4Trans(r, shared + 8 * Lane());
  } else {
    LdMatrix4(r, shared + 8 * Lane());
  }
  for (int i = 0; i < 4; ++i) out[4 * Lane() + i] = r[i];
}

TEST(FragmentTest, LdMatrixIsThePtxMap) {
  DeviceVector<uint32_t> out(128);
  for (const bool transposed : {false, true}) {
    RunBlock(32, 512, LoadMatrices, out.data(), transposed);
    const std::vector<uint32_t> got = out.ToHost();
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) {
        const int matrix = i / 2;
        const int row = lane / 4, column = lane % 4 * 2 + i % 2;
        const int element = matrix * 64 + (transposed ? column * 8 + row : row * 8 + column);
        EXPECT_EQ(got[lane * 4 + matrix] >> 16 * (i % 2) & 0xffff, static_cast<uint32_t>(element));
      }
    }
  }
}

void MultiplyFragments(const Bf16* a, const Bf16* b, float* d) {
  const int group = Lane() / 4, in_group = Lane() % 4;
  uint32_t a_fragment[4] = {}, b_fragment[2] = {};
  for (int i = 0; i < 8; ++i) {
    const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    a_fragment[i / 2] |= uint32_t{a[row * 16 + column].bits} << 16 * (i % 2);
  }
  for (int i = 0; i < 4; ++i) {
    const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    b_fragment[i / 2] |= uint32_t{b[row * 8 + group].bits} << 16 * (i % 2);
  }
  float d_fragment[4] = {1, 1, 1, 1};
  MmaBf16(d_fragment, a_fragment, b_fragment[0], b_fragment[1]);
  for (int i = 0; i < 4; ++i) {
    d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = d_fragment[i];
  }
}

TEST(FragmentTest, MmaIsThePtxMap) {
  std::mt19937 random(1);
  std::vector<Bf16> a(256), b(128);
  for (Bf16& x : a) x = ToBf16(static_cast<float>(random() % 31) - 15);
  for (Bf16& x : b) x = ToBf16(static_cast<float>(random() % 31) - 15);
  std::vector<float> want(128, 1.0f);
  for (int i = 0; i < 16 * 8 * 16; ++i) {
    const int m = i / 128, n = i / 16 % 8, k = i % 16;
    want[m * 8 + n] += ToFloat(a[m * 16 + k]) * ToFloat(b[k * 8 + n]);
  }
  DeviceVector<Bf16> device_a(a), device_b(b);
  DeviceVector<float> d(128);
  RunBlock(32, 0, MultiplyFragments, device_a.data(), device_b.data(), d.data());
  EXPECT_EQ(d.ToHost(), want);
}

// ---- Scalars.

void Scalars(const float* x, float* out) {  // [5][32]
  const int i = Lane();
  out[i] = Exp2(x[i]);
  out[32 + i] = Rsqrt(x[i]);
  out[64 + i] = Rcp(x[i]);
  out[96 + i] = Widen(Narrow(x[i]));
  const float2 two = UnpackBf16(PackBf16(x[i], -x[i]));
  out[128 + i] = two.x == out[96 + i] && two.y == -two.x ? 1.0f : 0.0f;
}

TEST(ScalarTest, AreNearTheMathematics) {
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[i] = 0.01f + 0.7f * static_cast<float>(i);
  DeviceVector<float> device_x(x), out(160);
  RunBlock(32, 0, Scalars, device_x.data(), out.data());
  const std::vector<float> got = out.ToHost();
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(got[i], std::exp2(x[i]), 1e-6 * std::exp2(x[i]));
    EXPECT_NEAR(got[32 + i], 1 / std::sqrt(x[i]), 1e-6 / std::sqrt(x[i]));
    EXPECT_NEAR(got[64 + i], 1 / x[i], 1e-6 / x[i]);
    EXPECT_EQ(got[96 + i], ToFloat(ToBf16(x[i])));
    EXPECT_EQ(got[128 + i], 1.0f);
  }
}

}  // namespace
}  // namespace mea::cuda
