#include "server/status.h"

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/field_error.h"

namespace mea {
grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  const std::optional<std::string> reason = RefusalReason(status);
  const std::optional<std::string> field = FieldOf(status);
  if (!reason && !field) return grpc::Status(code, message);

  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  if (reason) {
    google::rpc::ErrorInfo info;
    info.set_reason(*reason);
    info.set_domain("mea");
    details.add_details()->PackFrom(info);
  }
  if (field) {
    google::rpc::BadRequest bad;
    google::rpc::BadRequest::FieldViolation& violation = *bad.add_field_violations();
    violation.set_field(*field);
    violation.set_description(message);
    details.add_details()->PackFrom(bad);
  }
  if (const std::optional<absl::Duration> delay = RetryDelay(status)) {
    const int64_t ms = absl::ToInt64Milliseconds(*delay);
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(ms / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int>(ms % 1000) * 1'000'000);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace mea
