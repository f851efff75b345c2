// Backend::Receive between two emulated GPUs: its order with the ops of both.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "tests/kernels/cuda/tested_backend.h"
#include "tests/simt/machine.h"

namespace mea {
namespace {

constexpr std::array<int64_t, 2> kShape = {4, 8};

class ReceiveTest : public ::testing::Test {
 protected:
  ReceiveTest() {
    simt::ResetMachine({.num_devices = 2});
    for (int gpu = 0; gpu < 2; ++gpu) {
      CudaOptions options = kTestedCuda;
      options.device = gpu;
      gpus_[gpu] = MakeCuda(options);
      rows_[gpu] = gpus_[gpu]->Allocate(kShape, DType::kF32).value();
    }
  }
  ~ReceiveTest() override {
    for (int gpu = 0; gpu < 2; ++gpu) {
      rows_[gpu] = Tensor();
      gpus_[gpu].reset();
    }
    simt::ResetMachine();
  }

  void Fill(int gpu, float value) {
    const std::vector<float> host(32, value);
    gpus_[gpu]->Upload(TensorView::Of(std::span(host)).Reshape({4, 8}), rows_[gpu].view());
  }
  float First(int gpu) {
    std::vector<float> host(32);
    gpus_[gpu]->Download(rows_[gpu].view(), TensorView::Dense(host.data(), DType::kF32,
                                                              std::span(kShape), Device::kCpu));
    EXPECT_TRUE(gpus_[gpu]->Synchronize().ok());
    return host[0];
  }
  void Receive() {
    gpus_[1]->Receive({.sender = gpus_[0].get(), .from = rows_[0].view(), .to = rows_[1].view()});
  }

  std::array<std::unique_ptr<Backend>, 2> gpus_;
  std::array<Tensor, 2> rows_;
};

TEST_F(ReceiveTest, StandsBehindWhatTheSenderDidAndBeforeWhatItDoesNext) {
  Fill(0, 5);
  Receive();
  Fill(0, 7);
  // The sender's stream runs first: it waits for the copy in the receiver's.
  EXPECT_EQ(First(0), 7);
  EXPECT_EQ(First(1), 5);
}

TEST_F(ReceiveTest, StandsInOrderWithTheReceiversOps) {
  Fill(0, 5);
  Fill(1, 1);
  Receive();
  EXPECT_EQ(First(1), 5);
  Receive();
  Fill(1, 2);
  EXPECT_EQ(First(1), 2);
}

TEST_F(ReceiveTest, FailsWhereTheSenderHasFailed) {
  simt::FailCall(1, cudaErrorUnknown);
  Fill(0, 5);
  ASSERT_FALSE(gpus_[0]->Synchronize().ok());
  Receive();
  const absl::Status status = gpus_[1]->Synchronize();
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()),
              ::testing::StartsWith("CUDA device 1: Receive: CUDA device 0: Upload: "));
}

}  // namespace
}  // namespace mea
