#include "server/status.h"

#include <grpcpp/support/status.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mea {
namespace {

constexpr char kReason[] = "mea/reason";
constexpr char kRetryDelayMs[] = "mea/retry_delay_ms";

}  // namespace

absl::Status ResourceExhausted(std::string_view message, std::string_view reason,
                               absl::Duration retry_delay) {
  absl::Status status(absl::StatusCode::kResourceExhausted, {message.data(), message.size()});
  status.SetPayload(kReason, absl::Cord(absl::string_view(reason.data(), reason.size())));
  if (retry_delay > absl::ZeroDuration()) {
    status.SetPayload(kRetryDelayMs,
                      absl::Cord(std::to_string(absl::ToInt64Milliseconds(retry_delay))));
  }
  return status;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  const auto reason = status.GetPayload(kReason);
  if (!reason) return grpc::Status(code, message);

  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(*reason));
  info.set_domain("mea");
  details.add_details()->PackFrom(info);
  int64_t retry_ms = 0;
  const auto delay = status.GetPayload(kRetryDelayMs);
  if (delay && absl::SimpleAtoi(std::string(*delay), &retry_ms)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(retry_ms % 1000) * 1'000'000);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace mea
