// Several devices: each has its memory, streams and events, and reaches no other's.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "kernels/cuda/device/launch.h"
#include "tests/simt/machine.h"

namespace mea::simt {
namespace {

constexpr int kCount = 32;
constexpr size_t kBytes = kCount * sizeof(int);

struct AddOneParams {
  int* x;
};
void AddOne(AddOneParams p) { p.x[threadIdx.x] += 1; }

cudaError_t LaunchAddOne(int* x, cudaStream_t stream) {
  return cuda::Launch({.grid = 1, .block = kCount, .stream = stream}, AddOne, AddOneParams{x});
}

// A stream, an event and zeros on each of two devices; device 0 is current.
class DevicesTest : public testing::Test {
 protected:
  struct Part {
    cudaStream_t stream;
    cudaEvent_t event;
    int* x;
  };

  DevicesTest() {
    ResetMachine({.num_devices = 2});
    for (const int device : {1, 0}) {
      Part& part = parts_[device];
      EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
      EXPECT_EQ(cudaStreamCreateWithFlags(&part.stream, cudaStreamNonBlocking), cudaSuccess);
      EXPECT_EQ(cudaEventCreate(&part.event), cudaSuccess);
      EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&part.x), kBytes), cudaSuccess);
      EXPECT_EQ(cudaMemsetAsync(part.x, 0, kBytes, part.stream), cudaSuccess);
    }
  }
  ~DevicesTest() override {
    cudaSetDevice(0);
    for (const Part& part : parts_) {
      cudaFree(part.x);
      cudaEventDestroy(part.event);
      cudaStreamDestroy(part.stream);
    }
    EXPECT_EQ(NumLiveObjects(), 0);
  }

  Part parts_[2];
};

TEST_F(DevicesTest, EachCountsItsOwnMemory) {
  int* more;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&more), 4096), cudaSuccess);
  EXPECT_EQ(DeviceBytesInUse(0), int64_t{kBytes});
  EXPECT_EQ(DeviceBytesInUse(1), int64_t{kBytes} + 4096);
  size_t free_bytes, total_bytes;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(total_bytes - free_bytes, kBytes + 4096);
  EXPECT_EQ(cudaFree(more), cudaSuccess);
  EXPECT_EQ(DeviceBytesInUse(1), int64_t{kBytes});
}

TEST_F(DevicesTest, ACopyBetweenThemWaitsForTheEventOfTheSender) {
  const auto& [first, second] = parts_;
  EXPECT_EQ(LaunchAddOne(first.x, first.stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(first.event, first.stream), cudaSuccess);
  EXPECT_EQ(LaunchAddOne(first.x, first.stream), cudaSuccess);  // behind the event
  EXPECT_EQ(cudaStreamWaitEvent(second.stream, first.event), cudaSuccess);
  EXPECT_EQ(cudaMemcpyPeerAsync(second.x, 1, first.x, 0, kBytes, second.stream), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(LaunchAddOne(second.x, second.stream), cudaSuccess);
  int got[kCount];
  EXPECT_EQ(cudaMemcpyAsync(got, second.x, kBytes, cudaMemcpyDeviceToHost, second.stream),
            cudaSuccess);
  EXPECT_EQ(got[7], 2);
}

TEST_F(DevicesTest, StreamsAndEventsOfAnotherAreRefused) {
  const auto& [first, second] = parts_;
  EXPECT_EQ(LaunchAddOne(second.x, second.stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(first.event, second.stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaMemcpyPeerAsync(second.x, 0, first.x, 1, kBytes, first.stream),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
}

TEST_F(DevicesTest, ALostOneLeavesTheOther) {
  const auto& [first, second] = parts_;
  FailKernel(1, cudaErrorIllegalAddress);
  EXPECT_EQ(LaunchAddOne(first.x, first.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(first.stream), cudaErrorIllegalAddress);
  EXPECT_EQ(LaunchAddOne(first.x, first.stream), cudaErrorIllegalAddress);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(LaunchAddOne(second.x, second.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second.stream), cudaSuccess);
}

using DevicesDeathTest = DevicesTest;

TEST_F(DevicesDeathTest, AKernelThatTouchesTheMemoryOfAnotherAborts) {
  const auto& [first, second] = parts_;
  EXPECT_DEATH(
      {
        LaunchAddOne(second.x, first.stream);
        cudaStreamSynchronize(first.stream);
      },
      "of another device|AddressSanitizer");
}

}  // namespace
}  // namespace mea::simt
