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

// INVALID_ARGUMENT: "'nonsense' is not HOST:PORT ...".
absl::StatusOr<Address> ParseAddress(const std::string& text);

// Whether it names this machine: 127.0.0.1, ::1, localhost; and 0.0.0.0 and ::, which clients may
// take for it.
bool IsLoopback(const Address& address);

// A listening TCP socket, the caller's to close. Port 0 takes a free one and is replaced by it.
// UNAVAILABLE with the system's error: "127.0.0.1:80: Permission denied".
absl::StatusOr<int> Listen(Address& address);

// Binds the address for a moment without listening: libraries that listen for us say less about why
// they cannot, and nobody who waits for the port believes that it is ready.
absl::Status CheckBindable(Address address);

}  // namespace mea
