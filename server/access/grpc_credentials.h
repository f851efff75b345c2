#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/access/certificates.h"

namespace mea {

// Of one port: each handshake takes what `certificates` holds then. The caller keeps it until the
// server is gone.
std::shared_ptr<grpc::ServerCredentials> GrpcCredentials(
    std::shared_ptr<const Certificates> certificates);

}  // namespace mea
