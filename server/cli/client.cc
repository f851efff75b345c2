#include "server/cli/client.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/limits.h"

namespace mea {

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(2 * kMaxResponseBytes);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

absl::Status ToAbslStatus(const grpc::Status& status, const std::string& server) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string& message = status.error_message();
  if (code == absl::StatusCode::kUnavailable && absl::StrContains(message, "connect")) {
    return absl::UnavailableError(absl::StrCat("no server at ", server, " (", message, ")"));
  }
  return absl::Status(code, absl::StrCat(absl::StatusCodeToString(code), ": ", message));
}

}  // namespace mea
