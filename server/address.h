#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace mea {

// "127.0.0.1:50051", "[::1]:50051", "localhost:0".
struct Address {
  std::string host;
  int port = 0;

  std::string ToString() const;
};

// INVALID_ARGUMENT naming the address.
absl::StatusOr<Address> ParseAddress(const std::string& text);

// Binds a socket for a moment: OK, or UNAVAILABLE with what the system says ("Address already in
// use"). The libraries that listen for us say less.
absl::Status CheckBindable(const Address& address);

}  // namespace mea
