#include "server/open_connections.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <iterator>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"

namespace mea {
namespace {

// During a flood at the bound, not every new connection may cause a scan of all descriptors.
constexpr absl::Duration kLookPeriod = absl::Milliseconds(20);

ino_t InodeOf(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

// As gRPC writes it: ipv4:127.0.0.1:80, ipv6:%5B::1%5D:80.
std::string PeerOf(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return "";
  char text[INET6_ADDRSTRLEN] = "";
  if (name.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(name);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:%5B", text, "%5D:", ntohs(v6.sin6_port));
}

}  // namespace

int OpenConnections::Find(const std::string& peer) const {
  for (const auto& [fd, inode] : inodes_) {
    if (InodeOf(fd) == inode && PeerOf(fd) == peer) return fd;
  }
  return -1;
}

bool OpenConnections::Add(int fd) {
  inodes_.erase(fd);  // the previous connection with this number is gone
  if (std::ssize(inodes_) >= max_connections_) DropClosed();
  if (std::ssize(inodes_) >= max_connections_) return false;
  inodes_[fd] = InodeOf(fd);
  return true;
}

void OpenConnections::DropClosed() {
  const absl::Time now = Now();
  if (now < next_look_) return;
  next_look_ = now + kLookPeriod;
  std::erase_if(inodes_, [](const auto& open) { return InodeOf(open.first) != open.second; });
}

}  // namespace mea
