#pragma once

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "server/reset_guard.h"

namespace mea {

// Counts the calls that clients reset of gRPC's own methods and of those that there are not:
// nothing of ours sees them. `guard` outlives the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> WatchResets(
    ResetGuard& guard);

}  // namespace mea
