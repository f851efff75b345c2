// Whether there is a device at all that this build runs on, and what it says of itself.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <iostream>
#include <random>

#include "kernels/cuda_module.h"
#include "kernels/roofline.h"

namespace mea {
namespace {

TEST(DeviceTest, DescribesItself) {
  const absl::StatusOr<CudaDeviceInfo> info = DescribeCudaDevice();
  ASSERT_TRUE(info.ok()) << info.status();
  std::cout << info->name << ", compute capability " << info->sm / 10.0 << ", " << info->num_sms
            << " multiprocessors, " << info->free_bytes << " of " << info->total_bytes
            << " bytes free, driver for CUDA " << info->driver << "\n";
  EXPECT_GE(info->sm, 80);
  EXPECT_GT(info->free_bytes, 0);
}

TEST(DeviceTest, CopiesComeBackAsTheyWent) {
  const std::unique_ptr<Backend> device = OpenCudaBackend().value();
  const std::array<int64_t, 2> shape = {1000, 3000};
  const Tensor host = *device->AllocateHost(shape, DType::kI32);
  const Tensor back = *device->AllocateHost(shape, DType::kI32);
  std::minstd_rand random(1);
  for (int32_t& value : host.view().values<int32_t>()) value = static_cast<int32_t>(random());
  const Tensor first = *device->Allocate(shape, DType::kI32);
  const Tensor second = *device->Allocate(shape, DType::kI32);
  device->Upload(host.view(), first.view());
  device->Copy({.from = first.view(), .to = second.view()});
  device->Download(second.view(), back.view());
  ASSERT_TRUE(device->Synchronize().ok());
  EXPECT_EQ(std::memcmp(host.view().data, back.view().data, host.num_bytes()), 0);
}

TEST(DeviceTest, ItsRooflineCanBeRead) {
  const auto meter = CreateRooflineMeter(OpenCudaBackend().value());
  ASSERT_TRUE(meter.ok()) << meter.status();
  const absl::StatusOr<Roofline> roofline = (*meter)->Read();
  ASSERT_TRUE(roofline.ok()) << roofline.status();
  std::cout << "copies " << 1e-9 * roofline->bytes_per_second << " GB/s, product "
            << 1e-12 * roofline->flops_per_second << " TFLOP/s\n";
  EXPECT_GT(roofline->bytes_per_second, 0);
  EXPECT_GT(roofline->flops_per_second, 0);
}

}  // namespace
}  // namespace mea
