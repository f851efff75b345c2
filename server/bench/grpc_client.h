#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/bench/client.h"

namespace mea {

// Streams of mea.v1.Inference. Messages are timed on gRPC's own few threads, as they are read: the
// thread that waits in Run wakes once per request, not once per token.
BenchClientFactory GrpcBenchClients(std::shared_ptr<grpc::Channel> channel,
                                    BenchCallOptions options);

// What a measurement says of the server.
struct ServerFacts {
  std::string model;
  std::string version;
  std::string device;
  int vocab_size = 0;
};

// The status is that of the first call that fails; `server` stands in messages.
absl::StatusOr<ServerFacts> AskServer(const std::shared_ptr<grpc::Channel>& channel,
                                      const std::string& server);

}  // namespace mea
