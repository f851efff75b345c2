#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mea {

// How a client authenticates itself, and whom it trusts.
struct ClientCredentials {
  std::string tls_ca;    // PEM file of the authorities of the server's certificate; empty: no TLS
  std::string tls_cert;  // PEM files of the client's own certificate, for mutual TLS
  std::string tls_key;
  std::string api_key_file;  // holds only the key; empty: MEA_API_KEY, or none

  // The key. A status names the file that cannot be read or holds none.
  absl::StatusOr<std::string> ApiKey() const;
};

// A channel to HOST:PORT that sends the key with each call. A status names the file that cannot be
// read.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& server,
                                                           const ClientCredentials& credentials);

// One line: what the server said, or that nobody listens at `server`.
absl::Status ToAbslStatus(const grpc::Status& status, const std::string& server);

}  // namespace mea
