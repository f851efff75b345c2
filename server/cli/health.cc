#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "kernels/status_macros.h"
#include "server/cli/client_flags.h"
#include "server/cli/command.h"
#include "server/cli/in_range.h"

namespace mea {
namespace {

constexpr char kHealthExamples[] = R"(
Examples:
  mea health                                  exit status 0 when the local server is SERVING
  mea health --server 10.0.0.7:50051 --timeout 1
)";

struct HealthFlags {
  std::string server = kDefaultServer;
  ClientCredentials credentials;
  std::string service;
  double timeout_s = 5;
};

absl::Status CheckHealth(const HealthFlags& flags) {
  namespace health = grpc::health::v1;
  MEA_ASSIGN_OR_RETURN(const auto channel, OpenChannel(flags.server, flags.credentials));
  const auto stub = health::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(ToWallClock(Now() + absl::Seconds(flags.timeout_s))));
  health::HealthCheckRequest request;
  request.set_service(flags.service);
  health::HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, request, &response);
  if (!status.ok()) return ToAbslStatus(status, flags.server);
  const std::string& state = health::HealthCheckResponse::ServingStatus_Name(response.status());
  if (response.status() != health::HealthCheckResponse::SERVING) {
    return absl::UnavailableError(absl::StrCat(flags.server, " is ", state));
  }
  std::printf("%s\n", state.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddHealth(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("health", "Ask a server whether it is SERVING");
  command.footer(kHealthExamples);
  auto flags = std::make_shared<HealthFlags>();
  AddClientFlags(command, flags->server, flags->credentials);
  command.add_option("--service", flags->service,
                     "gRPC service, e.g. mea.v1.Inference; default: the server as a whole");
  command.add_option("--timeout", flags->timeout_s, "Seconds to wait for the answer")
      ->check(InRange(0.0, 3600.0))
      ->capture_default_str();
  command.callback([flags, &action] { action = [flags] { return CheckHealth(*flags); }; });
}

}  // namespace mea
