#include "kernels/cuda/device_info.h"

#include <cuda_runtime_api.h>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/runtime.h"
#include "kernels/status_macros.h"

namespace mea::cuda {
namespace {

// "13.0" of 13000.
std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// A failed call of `what` before there is a back end.
absl::Status Unavailable(std::string_view what, cudaError_t error) {
  cudaGetLastError();
  return absl::UnavailableError(absl::StrCat(absl::string_view(what.data(), what.size()), ": ",
                                             cudaGetErrorName(error), " (",
                                             cudaGetErrorString(error), ")"));
}

absl::StatusOr<int> CountDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return absl::UnavailableError("no CUDA device: the driver is there, but sees no GPU");
  }
  if (error == cudaErrorInsufficientDriver) {
    int runtime = 0;
    int driver = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    const std::string has =
        driver == 0 ? "there is none" : "this one speaks " + VersionText(driver);
    return absl::UnavailableError(absl::StrCat("no CUDA driver: a driver for CUDA ",
                                               VersionText(runtime), " is needed, ", has));
  }
  if (error != cudaSuccess) return Unavailable("cannot count CUDA devices", error);
  return count;
}

// The architectures of kernels/cuda/CMakeLists.txt: code for 8.0 runs on every 8.x, code for 9.0a
// only on 9.0.
bool HasCode(int major, int minor) { return major == 8 || (major == 9 && minor == 0); }

}  // namespace

absl::StatusOr<CudaDeviceInfo> DescribeDevice(int device) {
  MEA_ASSIGN_OR_RETURN(const int count, CountDevices());
  if (device < 0 || device >= count) {
    return absl::OutOfRangeError(
        absl::StrCat("no CUDA device ", device, ": there are ", count, ", counted from 0"));
  }
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) {
    return Unavailable("cannot describe the CUDA device", error);
  }
  if (!HasCode(properties.major, properties.minor)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "CUDA device ", device, " (", properties.name, ") has compute capability ",
        properties.major, ".", properties.minor, "; there is code for 8.0 to 8.9 and 9.0"));
  }
  CudaDeviceInfo info{.name = properties.name,
                      .sm = 10 * properties.major + properties.minor,
                      .num_sms = properties.multiProcessorCount};
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (const cudaError_t error = UseDevice(device)) {
    return Unavailable("cannot use the CUDA device", error);
  }
  if (const cudaError_t error = cudaMemGetInfo(&free_bytes, &total_bytes)) {
    return Unavailable("cannot ask for the memory of the CUDA device", error);
  }
  info.free_bytes = static_cast<int64_t>(free_bytes);
  info.total_bytes = static_cast<int64_t>(total_bytes);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  info.driver = VersionText(driver);
  return info;
}

}  // namespace mea::cuda
