#include "server/cli/client.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/limits.h"

namespace mea {

namespace {

// What the system said, which gRPC puts last: "failed to connect to all addresses; last error:
// UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused".
std::string Cause(const std::string& message) {
  const size_t colon = message.rfind(": ");
  const std::string cause = colon == message.npos ? message : message.substr(colon + 2);
  if (cause == "FD Shutdown") return "no answer";
  if (absl::StrContains(cause, "http1.x")) return "it speaks HTTP: give the gRPC address";
  return cause;
}

}  // namespace

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(2 * kMaxResponseBytes);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

absl::Status ToAbslStatus(const grpc::Status& status, const std::string& server) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string& message = status.error_message();
  if (code == absl::StatusCode::kUnavailable &&
      (absl::StrContains(message, "connect") || absl::StrContains(message, "DNS resolution"))) {
    return absl::UnavailableError(absl::StrCat("no server at ", server, " (", Cause(message), ")"));
  }
  if (code == absl::StatusCode::kDeadlineExceeded && message == "Deadline Exceeded") {
    return absl::DeadlineExceededError(
        absl::StrCat("DEADLINE_EXCEEDED: ", server, " was not done within --timeout"));
  }
  return absl::Status(code, absl::StrCat(absl::StatusCodeToString(code), ": ", message));
}

}  // namespace mea
