#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"

namespace mea {

// A channel to HOST:PORT, without encryption.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& server);

// One line: what the server said, or that nobody listens at `server`.
absl::Status ToAbslStatus(const grpc::Status& status, const std::string& server);

}  // namespace mea
