#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace grpc {
class Status;
}

namespace mea {

// RESOURCE_EXHAUSTED as a program reads it: google.rpc.ErrorInfo carries `reason`
// (UPPER_SNAKE_CASE), google.rpc.RetryInfo the delay, where it is worth coming back.
absl::Status ResourceExhausted(std::string_view message, std::string_view reason,
                               absl::Duration retry_delay = absl::ZeroDuration());

// The same code and message, with the details above in grpc-status-details-bin.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace mea
