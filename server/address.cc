#include "server/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kBacklog = 1024;  // connections that wait to be accepted

absl::Status Refused(const Address& address, const char* why, const char* hint = "") {
  return absl::UnavailableError(absl::StrCat(address.ToString(), ": ", why, hint));
}

absl::Status Refused(const Address& address, int error) {
  return Refused(address, std::strerror(error),
                 error == EADDRINUSE ? "; choose another port, 0 takes a free one" : "");
}

// A TCP socket bound to the address, which no other socket has. Port 0 becomes the actual port.
absl::StatusOr<int> Bind(Address& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0) return Refused(address, gai_strerror(error));
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = bind(fd, found->ai_addr, found->ai_addrlen) == 0;
  const int why = errno;
  freeaddrinfo(found);
  if (!bound) {
    close(fd);
    return Refused(address, why);
  }
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  // The port is at the same offset for IPv4 and IPv6.
  address.port = ntohs(reinterpret_cast<sockaddr_in*>(&name)->sin_port);
  return fd;
}

}  // namespace

std::string Address::ToString() const {
  const bool v6 = host.find(':') != host.npos;
  return absl::StrCat(v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
}

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  Address address;
  if (colon == text.npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not HOST:PORT with a port of 0..65535"));
  }
  address.host = text.substr(0, colon);
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  return address;
}

bool IsLoopback(const Address& address) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) {
    const uint32_t host = ntohl(v4.s_addr);
    return host >> 24 == IN_LOOPBACKNET || host == INADDR_ANY;
  }
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6);
  }
  return address.host == "localhost";
}

absl::StatusOr<int> Listen(Address& address) {
  const absl::StatusOr<int> fd = Bind(address);
  if (!fd.ok() || listen(*fd, kBacklog) == 0) return fd;
  const int why = errno;
  close(*fd);
  return Refused(address, why);
}

absl::Status CheckBindable(Address address) {
  MEA_ASSIGN_OR_RETURN(const int fd, Bind(address));
  close(fd);
  return absl::OkStatus();
}

}  // namespace mea
