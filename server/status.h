#pragma once

#include "absl/status/status.h"
#include "engine/refusal.h"

namespace grpc {
class Status;
}

namespace mea {

// The same code and message. In grpc-status-details-bin: for a refusal (engine/refusal.h)
// google.rpc.ErrorInfo with the reason and google.rpc.RetryInfo with the delay; for a wrong field
// (field_error.h) google.rpc.BadRequest with its path.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace mea
