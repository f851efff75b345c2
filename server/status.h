#pragma once

#include "absl/status/status.h"
#include "engine/refusal.h"

namespace grpc {
class Status;
}

namespace mea {

// The same code and message. Of a refusal (engine/refusal.h) google.rpc.ErrorInfo carries the
// reason and google.rpc.RetryInfo the delay, in grpc-status-details-bin.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace mea
