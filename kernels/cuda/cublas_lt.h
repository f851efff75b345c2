#pragma once

#include <cublasLt.h>

#include "absl/status/statusor.h"

namespace mea::cuda {

// The functions of cuBLASLt that products need, without the prefix cublasLt.
// clang-format off: a list, which clang-format writes differently each time
#define MEA_CUBLAS_LT_FUNCTIONS(X) \
  X(GetStatusName)                 \
  X(Create)                        \
  X(Destroy)                       \
  X(MatrixLayoutCreate)            \
  X(MatrixLayoutDestroy)           \
  X(MatmulDescCreate)              \
  X(MatmulDescDestroy)             \
  X(MatmulDescSetAttribute)        \
  X(MatmulPreferenceCreate)        \
  X(MatmulPreferenceDestroy)       \
  X(MatmulPreferenceSetAttribute)  \
  X(MatmulAlgoGetHeuristic)        \
  X(Matmul)
// clang-format on

struct CublasLt {
#define MEA_DECLARE(name) decltype(&cublasLt##name) name = nullptr;
  MEA_CUBLAS_LT_FUNCTIONS(MEA_DECLARE)
#undef MEA_DECLARE
};

// Opens the library, which then stays open. It takes half a gigabyte of disk, so we neither link
// nor bundle it. NOT_FOUND names what was looked for.
absl::StatusOr<CublasLt> OpenCublasLt();

}  // namespace mea::cuda
