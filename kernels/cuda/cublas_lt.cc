#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mea::cuda {
namespace {

// First the paths of the loader, then those where the toolkit installs itself.
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                  "/usr/local/cuda/lib64/libcublasLt.so.13",
                                  "/usr/local/cuda/lib64/libcublasLt.so.12"};

}  // namespace

absl::StatusOr<CublasLt> OpenCublasLt() {
  void* library = nullptr;
  for (const char* name : kNames) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("no cuBLASLt, looked for ", absl::StrJoin(kNames, ", "),
                     "; install cuBLAS or add its directory to LD_LIBRARY_PATH"));
  }
  CublasLt functions;
  std::vector<const char*> missing;
#define MEA_FIND(name)                                                                           \
  functions.name = reinterpret_cast<decltype(functions.name)>(dlsym(library, "cublasLt" #name)); \
  if (functions.name == nullptr) missing.push_back("cublasLt" #name);
  MEA_CUBLAS_LT_FUNCTIONS(MEA_FIND)
#undef MEA_FIND
  if (!missing.empty()) {
    return absl::NotFoundError(absl::StrCat("cuBLASLt lacks ", absl::StrJoin(missing, ", ")));
  }
  return functions;
}

}  // namespace mea::cuda
