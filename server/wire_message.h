#pragma once

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace mea {

// Messages are parsed here and not by gRPC, which silently answers UNIMPLEMENTED to one that it
// cannot read, and parses before the server can say that there is no room.

// INVALID_ARGUMENT; names the string that is not valid UTF-8, if that is the error.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite& message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);

}  // namespace mea
