// A CUDA module without CUDA: what kernels/cuda_module.cc opens in cuda_module_test.

#include "absl/strings/str_cat.h"
#include "kernels/cuda_module.h"

namespace {

absl::StatusOr<std::unique_ptr<mea::Backend>> Open(const mea::CudaOptions& options) {
  return absl::UnavailableError(absl::StrCat("the fake has no device ", options.device));
}

absl::StatusOr<mea::CudaDeviceInfo> Describe(int device) {
  return mea::CudaDeviceInfo{.name = absl::StrCat("fake ", device)};
}

absl::StatusOr<mea::BackendBytes> PlannedBytes(const mea::BackendLimits& limits,
                                               const mea::CudaOptions& options,
                                               const mea::CudaDeviceInfo& device) {
  return mea::BackendBytes{.scratch = limits.max_rows + device.num_sms,
                           .graphs = options.max_graphs};
}

}  // namespace

extern "C" {
#if defined(MEA_FAKE_VERSION)
extern __attribute__((visibility("default")))
const mea::CudaModule mea_cuda_module = {MEA_FAKE_VERSION, Open, Describe, PlannedBytes};
#else
extern __attribute__((visibility("default")))
const mea::CudaModule mea_cuda_module = {mea::CudaModuleVersion(), Open, Describe, PlannedBytes};
#endif
}
