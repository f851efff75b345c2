#include "server/http/stream.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

namespace mea {
namespace {

// Detects a peer that vanished silently: the kernel probes it after a minute of silence.
constexpr int kKeepaliveIdleSeconds = 60;
constexpr int kKeepaliveIntervalSeconds = 15;
constexpr int kKeepaliveProbes = 4;

}  // namespace

void HttpStream::SetOptions(absl::Duration write_timeout) {
  const auto set = [fd = socket_.native_handle()](int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  // Tokens are small, so the kernel would buffer them for many minutes after the peer has gone.
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(absl::ToInt64Milliseconds(write_timeout)));
}

}  // namespace mea
