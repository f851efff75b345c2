#pragma once

#include <grpcpp/server_builder.h>

namespace mea {

// gRPC's options: bounds of a connection, of its calls and of their messages.
void SetGrpcOptions(grpc::ServerBuilder& builder);

}  // namespace mea
