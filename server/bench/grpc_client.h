#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/bench/client.h"

namespace mea {

// Streams of mea.v1.Inference. gRPC's own few threads time the messages as they read them, so the
// thread that waits in Run wakes once per request, not once per token.
BenchClientFactory GrpcBenchClients(std::shared_ptr<grpc::Channel> channel,
                                    BenchCallOptions options);

// The server's description in a report.
struct ServerFacts {
  std::string model;
  std::string version;
  std::string device;
  int vocab_size = 0;
};

// The status is that of the first call that fails; `server` appears in messages.
absl::StatusOr<ServerFacts> AskServer(const std::shared_ptr<grpc::Channel>& channel,
                                      const std::string& server);

}  // namespace mea
