// What a device's failure does to the engine, at every point of a step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/cuda/tested_backend.h"
#include "tests/simt/machine.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

class CudaFailureTest : public ::testing::TestWithParam<bool> {};

TEST_P(CudaFailureTest, EveryRequestEndsInternalWhicheverKernelFails) {
  const RandomModelSpec spec{.num_layers = 1, .head_norm = true, .dtype = DType::kBf16};
  const std::vector<Request> requests = {RandomRequest(1, 20, 4, spec.vocab_size),
                                         RandomRequest(2, 3, 6, spec.vocab_size)};
  // Fails the kernel-th kernel after the start, if there are as many; the number of kernels run.
  const auto run = [&](int64_t kernel) {
    simt::ResetMachine();
    const std::unique_ptr<Backend> device = MakeCuda();
    EngineHarness harness(spec, {.device = device.get(),
                                 .page_size = 64,
                                 .kv_dtype = DType::kBf16,
                                 .launches_ahead = GetParam()});
    const int64_t before = simt::NumKernels();
    simt::FailKernel(kernel, cudaErrorIllegalAddress);
    const auto sinks = harness.Run(requests);
    const bool failed = !harness.core().device_status().ok();
    EXPECT_EQ(failed, kernel > 0);
    EXPECT_EQ(harness.kv().stats().used_pages, 0);
    int num_internal = 0;
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->finish.has_value());
      num_internal += absl::IsInternal(sink->finish->status) ? 1 : 0;
    }
    // A request may have ended before the device did.
    EXPECT_EQ(num_internal > 0, failed);
    return simt::NumKernels() - before;
  };
  const int64_t num_kernels = run(-1);
  ASSERT_GT(num_kernels, 50);
  for (int64_t kernel = 1; kernel <= num_kernels; kernel += 3) {
    SCOPED_TRACE(kernel);
    run(kernel);
  }
  simt::ResetMachine();
}

INSTANTIATE_TEST_SUITE_P(Launches, CudaFailureTest, ::testing::Bool(),
                         [](const auto& ahead) { return ahead.param ? "Ahead" : "OneByOne"; });

}  // namespace
}  // namespace mea::testing
