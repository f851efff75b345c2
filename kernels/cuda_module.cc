#include "kernels/cuda_module.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr char kFileName[] = "libmea_cuda.so";
constexpr char kPathVariable[] = "MEA_CUDA_MODULE";

std::vector<std::string> Candidates() {
  if (const char* path = std::getenv(kPathVariable)) return {path};
  std::error_code error;
  const std::filesystem::path bin =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  return {bin / kFileName, bin.parent_path() / "lib" / kFileName};
}

absl::StatusOr<const CudaModule*> LoadModule() {
  const std::vector<std::string> candidates = Candidates();
  for (const std::string& path : candidates) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    // RTLD_LOCAL: the module has copies of our symbols, which must not replace ours.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat("cannot load ", dlerror()));
    }
    const auto* module = static_cast<const CudaModule*>(dlsym(library, kCudaModuleSymbol));
    if (module == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is not a CUDA module of mea"));
    }
    if (module->version != std::string_view(CudaModuleVersion())) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is of version ", module->version,
                                                        ", this program of version ",
                                                        CudaModuleVersion()));
    }
    return module;
  }
  return absl::NotFoundError(
      absl::StrCat("no CUDA module: there is no ", absl::StrJoin(candidates, ", nor ")));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> OpenCudaBackend(const CudaOptions& options) {
  MEA_ASSIGN_OR_RETURN(const CudaModule* module, LoadModule());
  return module->open(options);
}

absl::StatusOr<CudaDeviceInfo> DescribeCudaDevice(int device) {
  MEA_ASSIGN_OR_RETURN(const CudaModule* module, LoadModule());
  return module->describe(device);
}

absl::StatusOr<BackendBytes> PlannedCudaBytes(const BackendLimits& limits,
                                              const CudaOptions& options,
                                              const CudaDeviceInfo& device) {
  MEA_ASSIGN_OR_RETURN(const CudaModule* module, LoadModule());
  return module->planned_bytes(limits, options, device);
}

}  // namespace mea
