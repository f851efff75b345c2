#include "kernels/cuda_module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace mea {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CudaModuleTest : public ::testing::Test {
 protected:
  ~CudaModuleTest() override { unsetenv("MEA_CUDA_MODULE"); }
  static absl::Status OpenStatus(const char* path) {
    setenv("MEA_CUDA_MODULE", path, 1);
    const absl::Status status = OpenCudaBackend({.device = 3}).status();
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
    return status;
  }
};

TEST_F(CudaModuleTest, CallsWhatTheModuleExports) {
  EXPECT_EQ(OpenStatus(MEA_FAKE_MODULE), absl::UnavailableError("the fake has no device 3"));
  EXPECT_EQ(DescribeCudaDevice(2)->name, "fake 2");
  const auto planned = PlannedCudaBytes({.max_rows = 5}, {.max_graphs = 7}, {.num_sms = 132});
  EXPECT_EQ(planned->scratch, 137);
  EXPECT_EQ(planned->graphs, 7);
}

TEST_F(CudaModuleTest, AMissingModuleIsNamed) {
  EXPECT_EQ(OpenStatus("/nowhere/module.so"),
            absl::NotFoundError("no CUDA module: there is no /nowhere/module.so"));
}

TEST_F(CudaModuleTest, LooksBesideTheProgramAndInLib) {
  unsetenv("MEA_CUDA_MODULE");
  const absl::Status status = DescribeCudaDevice().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              ::testing::ContainsRegex(
                  "tests/kernels/cuda/libmea_cuda.so, nor .*/tests/kernels/lib/libmea_cuda.so"));
}

TEST_F(CudaModuleTest, AModuleOfAnotherVersionIsRefused) {
  const absl::Status status = OpenStatus(MEA_STRANGE_MODULE);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(std::string("is of version 0.0.0-strange, this program of version ") +
                        CudaModuleVersion()));
}

TEST_F(CudaModuleTest, ALibraryThatIsNoModuleIsRefused) {
  const absl::Status status = OpenStatus("libm.so.6");
  // Found by path alone: the loader's own directories are not searched.
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenStatus(MEA_NO_LIBRARY).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace mea
