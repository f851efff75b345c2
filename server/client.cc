#include "server/client.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/access/small_file.h"
#include "server/address.h"
#include "server/limits.h"

namespace mea {
namespace {

namespace experimental = grpc::experimental;

constexpr int64_t kMaxPemBytes = 1 << 20;
constexpr int64_t kMaxApiKeyBytes = 4 << 10;

// Sends the key. gRPC's own call credentials do not work without TLS.
class KeySender final : public experimental::Interceptor {
 public:
  explicit KeySender(const std::string& authorization) : authorization_(authorization) {}
  void Intercept(experimental::InterceptorBatchMethods* methods) override {
    using experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", authorization_);
    }
    methods->Proceed();
  }

 private:
  const std::string& authorization_;
};

class KeySenders final : public experimental::ClientInterceptorFactoryInterface {
 public:
  explicit KeySenders(const std::string& api_key)
      : authorization_(absl::StrCat("Bearer ", api_key)) {}
  experimental::Interceptor* CreateClientInterceptor(experimental::ClientRpcInfo*) override {
    return new KeySender(authorization_);
  }

 private:
  const std::string authorization_;
};

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(
    const ClientCredentials& from) {
  if (from.tls_cert.empty() != from.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  if (from.tls_ca.empty()) {
    if (from.tls_cert.empty()) return grpc::InsecureChannelCredentials();
    return absl::InvalidArgumentError("--tls-cert needs --tls-ca");
  }
  grpc::SslCredentialsOptions options;
  const std::pair<const std::string*, std::string*> reads[] = {
      {&from.tls_ca, &options.pem_root_certs},
      {&from.tls_cert, &options.pem_cert_chain},
      {&from.tls_key, &options.pem_private_key}};
  for (const auto& [path, text] : reads) {
    if (path->empty()) continue;
    MEA_ASSIGN_OR_RETURN(*text, ReadSmallFile(*path, kMaxPemBytes));
  }
  return grpc::SslCredentials(options);
}

// The error of the system, which gRPC puts last: "failed to connect to all addresses; last error:
// UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused".
std::string Cause(const std::string& message) {
  const size_t colon = message.rfind(": ");
  const std::string cause = colon == message.npos ? message : message.substr(colon + 2);
  if (cause == "FD Shutdown") return "no answer";
  if (cause == "Socket closed") return "it closed the connection; it may want TLS: --tls-ca FILE";
  if (absl::StrContains(cause, "http1.x"))
    return "it speaks HTTP: give the gRPC address, that of serve's --listen; 50051 by default";
  return cause;
}

}  // namespace

absl::StatusOr<std::string> ClientCredentials::ApiKey() const {
  std::string key;
  if (api_key_file.empty()) {
    const char* given = std::getenv("MEA_API_KEY");
    if (given != nullptr) key = given;
  } else {
    MEA_ASSIGN_OR_RETURN(key, ReadSmallFile(api_key_file, kMaxApiKeyBytes));
  }
  absl::StripAsciiWhitespace(&key);
  const std::string where = api_key_file.empty() ? "MEA_API_KEY" : api_key_file;
  if (key.empty() && !api_key_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": holds no key"));
  }
  if (!std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; })) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": holds more than one line of printable ASCII"));
  }
  return key;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& server,
                                                           const ClientCredentials& credentials) {
  if (absl::StrContains(server, "://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--server ", server, " is a URL, and this command speaks gRPC: give the ",
                     "HOST:PORT of serve's --listen; 127.0.0.1:50051 by default"));
  }
  MEA_ASSIGN_OR_RETURN(const std::string key, credentials.ApiKey());
  MEA_ASSIGN_OR_RETURN(const auto channel_credentials, ChannelCredentialsOf(credentials));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(2 * kMaxResponseBytes);
  // Connections within this machine use no proxy, even if http_proxy is set.
  const absl::StatusOr<Address> address = ParseAddress(server);
  if (address.ok() && IsLoopback(*address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::vector<std::unique_ptr<experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!key.empty()) interceptors.push_back(std::make_unique<KeySenders>(key));
  return experimental::CreateCustomChannelWithInterceptors(server, channel_credentials, arguments,
                                                           std::move(interceptors));
}

absl::Status ToAbslStatus(const grpc::Status& status, const std::string& server) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string& message = status.error_message();
  if (code == absl::StatusCode::kUnavailable && absl::StrContains(message, "andshake failed")) {
    return absl::UnavailableError(absl::StrCat("no TLS with ", server, " (", Cause(message), ")"));
  }
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
