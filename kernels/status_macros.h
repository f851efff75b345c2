#pragma once

#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/statusor.h"

// Returns the status of `expr`, an absl::Status, unless it is OK.
#define MEA_RETURN_IF_ERROR(expr)                                                 \
  do {                                                                            \
    if (absl::Status mea_status = (expr); ABSL_PREDICT_FALSE(!mea_status.ok())) { \
      return mea_status;                                                          \
    }                                                                             \
  } while (false)

// MEA_ASSIGN_OR_RETURN(const Tensor tensor, Allocate(shape)): declares (or assigns to) its first
// argument from the value of an absl::StatusOr; returns the status where there is none. The
// declaration must hold no comma: use auto, or an alias of the type.
#define MEA_ASSIGN_OR_RETURN(declaration, expr) \
  MEA_ASSIGN_OR_RETURN_(MEA_STATUS_CONCAT(mea_result_, __LINE__), declaration, expr)

#define MEA_ASSIGN_OR_RETURN_(result, declaration, expr)                   \
  auto result = (expr);                                                    \
  if (ABSL_PREDICT_FALSE(!result.ok())) return std::move(result).status(); \
  declaration = *std::move(result)

#define MEA_STATUS_CONCAT(a, b) MEA_STATUS_CONCAT_(a, b)
#define MEA_STATUS_CONCAT_(a, b) a##b
