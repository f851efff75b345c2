#include "kernels/cuda/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/device_info.h"
#include "kernels/cuda/graph_cache.h"
#include "tests/simt/machine.h"

namespace mea::cuda {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class RuntimeTest : public ::testing::Test {
 protected:
  RuntimeTest() {
    simt::ResetMachine({.memory_bytes = 1 << 20});
    runtime_ = Runtime::Create(0, /*synchronous=*/false).value();
  }
  ~RuntimeTest() override {
    runtime_.reset();
    EXPECT_EQ(simt::NumLiveObjects(), 0);
  }

  Tensor Device(std::vector<int64_t> shape) {
    return runtime_->AllocateDevice(shape, DType::kI32).value();
  }
  // An op: adds the first element of `from` to that of `to`.
  void Add(const Tensor& from, const Tensor& to) {
    if (!runtime_->Begin("Add")) return;
    runtime_->Check(simt::Enqueue(runtime_->stream(), [a = from.view(), b = to.view()] {
      b.as<int32_t>()[0] += a.as<int32_t>()[0];
    }));
    runtime_->End();
  }
  void Set(const Tensor& tensor, int32_t value) {
    ASSERT_TRUE(runtime_->Begin("Set"));
    runtime_->Copy(TensorView::Dense(&value, DType::kI32, {1}), tensor.view(),
                   cudaMemcpyHostToDevice);
  }
  std::vector<int32_t> Values(const Tensor& tensor) {
    std::vector<int32_t> host(tensor.view().num_elements(), -1);
    EXPECT_TRUE(runtime_->Begin("Get"));
    runtime_->Copy(tensor.view().Reshape({std::ssize(host)}), TensorView::Of<int32_t>(host),
                   cudaMemcpyDeviceToHost);
    EXPECT_TRUE(runtime_->Synchronize().ok());
    return host;
  }
  int32_t Get(const Tensor& tensor) { return Values(tensor)[0]; }

  std::unique_ptr<Runtime> runtime_;
};

TEST_F(RuntimeTest, MemoryIsZero) {
  const Tensor device = Device({3, 5});
  EXPECT_THAT(Values(device), Each(0));
  const std::vector<int64_t> shape = {7};
  const Tensor pinned = runtime_->AllocatePinned(shape, DType::kI32).value();
  EXPECT_THAT(pinned.view().values<int32_t>(), Each(0));
  EXPECT_EQ(device.view().device, Device::kCuda);
  EXPECT_EQ(runtime_->counters().allocations, 2);
}

TEST_F(RuntimeTest, AskingForTooMuchSaysHowMuchAndDoesNotStick) {
  const Tensor some = Device({1 << 17});
  const std::vector<int64_t> shape = {1 << 20};
  const absl::Status status = runtime_->AllocateDevice(shape, DType::kI32).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("no device memory of 4194304 bytes; 524288 of 1048576"));
  EXPECT_TRUE(runtime_->Synchronize().ok());
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RuntimeTest, CopiesRowsOfAnyStride) {
  const Tensor device = Device({3, 4});
  std::vector<int32_t> host(18);
  std::iota(host.begin(), host.end(), 0);
  const TensorView wide = TensorView::Dense(host.data(), DType::kI32, {3, 6});
  ASSERT_TRUE(runtime_->Begin("Upload"));
  runtime_->Copy(wide.Columns(1, 2), device.view().Columns(2, 2), cudaMemcpyHostToDevice);
  std::vector<int32_t> back(12, -1);
  runtime_->Copy(device.view(), TensorView::Dense(back.data(), DType::kI32, {3, 4}),
                 cudaMemcpyDeviceToHost);
  ASSERT_TRUE(runtime_->Synchronize().ok());
  EXPECT_THAT(back, ElementsAre(0, 0, 1, 2, 0, 0, 7, 8, 0, 0, 13, 14));
}

TEST_F(RuntimeTest, TheFirstErrorSticksAndNamesTheOp) {
  const Tensor a = Device({1});
  const Tensor b = Device({1});
  Set(a, 1);
  simt::FailCall(1, cudaErrorInvalidValue);
  Add(a, b);
  Add(a, b);  // does nothing
  simt::FailCall(1, cudaErrorLaunchFailure);
  const absl::Status status = runtime_->Synchronize();
  simt::FailCall(-1, cudaSuccess);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("CUDA device 0: Add: "), HasSubstr("cudaErrorInvalidValue")));
  EXPECT_EQ(runtime_->AllocateDevice(std::vector<int64_t>{1}, DType::kI32).status(), status);
  EXPECT_FALSE(runtime_->Begin("Add"));
}

TEST_F(RuntimeTest, WorksFromAnotherThread) {
  const Tensor a = Device({1});
  std::thread([&] { Set(a, 7); }).join();
  EXPECT_EQ(Get(a), 7);
}

class GraphCacheTest : public RuntimeTest {
 protected:
  // Runs b += a under the key; whether the op was called.
  bool RunAdd(GraphCache& graphs, int64_t key) {
    bool called = false;
    graphs.Run(key, [&] {
      called = true;
      Add(a_, b_);
    });
    return called;
  }

  const Tensor a_ = Device({1});
  const Tensor b_ = Device({1});
};

TEST_F(GraphCacheTest, TheFirstRunWarmsUpTheSecondMakesTheGraphTheThirdReplays) {
  GraphCache graphs(runtime_.get(), 4);
  Set(a_, 1);
  EXPECT_TRUE(RunAdd(graphs, 5));
  EXPECT_EQ(runtime_->counters().graphs, 0);
  EXPECT_TRUE(RunAdd(graphs, 5));
  EXPECT_EQ(runtime_->counters().graphs, 1);
  EXPECT_EQ(Get(b_), 2);
  Set(a_, 10);
  EXPECT_FALSE(RunAdd(graphs, 5));
  EXPECT_FALSE(RunAdd(graphs, 5));
  EXPECT_EQ(Get(b_), 22);
  EXPECT_EQ(runtime_->counters().graph_replays, 2);
  EXPECT_EQ(runtime_->counters().eager_runs, 2);
}

TEST_F(GraphCacheTest, NegativeKeysNeverGetAGraph) {
  GraphCache graphs(runtime_.get(), 4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(RunAdd(graphs, -1));
  GraphCache none(runtime_.get(), 0);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(RunAdd(none, 1));
  EXPECT_EQ(runtime_->counters().graphs, 0);
  EXPECT_EQ(runtime_->counters().eager_runs, 8);
}

TEST_F(GraphCacheTest, TheGraphUnusedForLongestGivesWay) {
  GraphCache graphs(runtime_.get(), 2);
  for (const int64_t key : {1, 1, 2, 2, 1}) RunAdd(graphs, key);
  RunAdd(graphs, 3);  // in the place of 2
  EXPECT_FALSE(RunAdd(graphs, 1));
  EXPECT_TRUE(RunAdd(graphs, 2));  // in the place of 3
  EXPECT_TRUE(RunAdd(graphs, 3));  // in the place of 1
  EXPECT_TRUE(RunAdd(graphs, 1));
}

// Wherever a call fails: no crash, an error that sticks, and nothing left behind.
TEST_F(GraphCacheTest, SurvivesAFailureOfAnyCall) {
  // What a runtime of its own says after some runs.
  const auto run = [this]() -> absl::Status {
    auto runtime = Runtime::Create(0, /*synchronous=*/false);
    if (!runtime.ok()) return runtime.status();
    std::swap(*runtime, runtime_);
    absl::Status status;
    {
      GraphCache graphs(runtime_.get(), 1);
      for (const int64_t key : {1, 1, 1, 2, 2}) RunAdd(graphs, key);
      status = runtime_->Synchronize();
    }
    std::swap(*runtime, runtime_);
    return status;
  };
  const int64_t before = simt::NumCalls();
  ASSERT_TRUE(run().ok());
  const int64_t num_calls = simt::NumCalls() - before;
  ASSERT_GT(num_calls, 20);
  int num_failed = 0;
  for (int64_t call = 1; call <= num_calls; ++call) {
    simt::FailCall(call, cudaErrorUnknown);
    const absl::Status status = run();
    simt::FailCall(-1, cudaSuccess);
    if (status.ok()) continue;
    ++num_failed;
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Message(status), HasSubstr("cudaErrorUnknown")) << "call " << call;
  }
  // Of no consequence is what fails on the way out: a last wait, destroying two graphs that have
  // run, the three events and the stream. Nor what only asks: for the free memory before and behind
  // two graphs.
  EXPECT_EQ(num_failed, num_calls - 11);
}

TEST(DeviceInfoTest, DescribesTheDevice) {
  simt::ResetMachine({.num_sms = 5, .memory_bytes = 1 << 20});
  const CudaDeviceInfo info = DescribeDevice(0).value();
  EXPECT_EQ(info.name, "emulated sm_90");
  EXPECT_EQ(info.sm, 90);
  EXPECT_EQ(info.num_sms, 5);
  EXPECT_EQ(info.total_bytes, 1 << 20);
  EXPECT_EQ(info.free_bytes, 1 << 20);
  EXPECT_EQ(info.driver, "13.0");
}

TEST(DeviceInfoTest, SaysInOneLineWhatIsMissing) {
  simt::ResetMachine({.num_devices = 0});
  EXPECT_EQ(DescribeDevice(0).status(),
            absl::UnavailableError("no CUDA device: the driver is there, but sees no GPU"));
  simt::ResetMachine();
  EXPECT_EQ(DescribeDevice(1).status(),
            absl::OutOfRangeError("no CUDA device 1: there are 1, counted from 0"));
  simt::FailCall(1, cudaErrorInsufficientDriver);
  EXPECT_EQ(DescribeDevice(0).status(),
            absl::UnavailableError(
                "no CUDA driver: a driver for CUDA 13.0 is needed, this one speaks 13.0"));
  simt::ResetMachine({.major = 7, .minor = 5});
  EXPECT_EQ(DescribeDevice(0).status(),
            absl::FailedPreconditionError("CUDA device 0 (emulated sm_75) has compute capability "
                                          "7.5; there is code for 8.0 to 8.9 and 9.0"));
  simt::ResetMachine({.major = 10, .minor = 0});
  EXPECT_EQ(DescribeDevice(0).status().code(), absl::StatusCode::kFailedPrecondition);
  simt::ResetMachine();
}

}  // namespace
}  // namespace mea::cuda
