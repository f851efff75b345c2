#include "server/grpc_port.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kMaxAccepts = 64;      // in a row, before the next check whether to stop
constexpr int kAcceptPauseMs = 100;  // if there are no descriptors
constexpr absl::Duration kWarnPeriod = absl::Seconds(10);
constexpr unsigned kUserTimeoutMs = 20'000;  // how long sent data may stay unacknowledged

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcPort>> GrpcPort::Listen(Address& address,
                                                           GrpcPortOptions options) {
  MEA_ASSIGN_OR_RETURN(const int listener, mea::Listen(address));
  const int on = 1;  // connections inherit both
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs, sizeof(kUserTimeoutMs));
  const int wake = eventfd(0, EFD_CLOEXEC);
  if (wake < 0) {
    const char* why = std::strerror(errno);
    close(listener);
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address.ToString(), ": ", why));
  }
  return std::unique_ptr<GrpcPort>(
      new GrpcPort(listener, wake, address.ToString(), std::move(options)));
}

GrpcPort::GrpcPort(int listener, int wake, std::string address, GrpcPortOptions options)
    : listener_(listener),
      wake_(wake),
      address_(std::move(address)),
      options_(std::move(options)),
      connections_(options_.max_connections) {}

GrpcPort::~GrpcPort() {
  Stop();
  close(listener_);
  close(wake_);
}

void GrpcPort::Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> to) {
  to_ = std::move(to);
  thread_ = std::thread([this] { Run(); });
}

void GrpcPort::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof(one));
  thread_.join();
  shutdown(listener_, SHUT_RDWR);  // refuses new and waiting connections
}

// Resets the connection. gRPC closes its descriptor only after all of its calls, which may take a
// while; until then a plain shutdown would leave the client's bytes unread.
void GrpcPort::Cut(const std::string& peer) {
  {
    absl::MutexLock lock(&mu_);
    const int fd = connections_.Find(peer);
    if (fd < 0) return;
    const sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
    connect(fd, &nobody, sizeof(nobody));
  }
  Warn(absl::StrCat("the connection of ", peer, " resets its calls: closed"));
}

void GrpcPort::Run() {
  pollfd fds[] = {{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
  bool pause = false;
  for (;;) {
    // A connection that cannot be accepted keeps the listener readable, so wait a moment.
    poll(fds, pause ? 1 : 2, pause ? kAcceptPauseMs : -1);
    if (fds[0].revents != 0) return;
    pause = !AcceptSome();
  }
}

bool GrpcPort::AcceptSome() {
  for (int i = 0; i < kMaxAccepts; ++i) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      HandOver(fd);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return true;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      Warn(absl::StrCat("cannot accept connections on ", address_, ": ", std::strerror(errno)));
      return false;
    }
  }
  return true;
}

void GrpcPort::HandOver(int fd) {
  bool counted = false;
  {
    absl::MutexLock lock(&mu_);
    counted = connections_.Add(fd);
  }
  if (!counted) {
    close(fd);
    Warn(
        absl::StrCat("all ", options_.max_connections, " connections of ", address_, " are taken"));
    return;
  }
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener_;
  connection.fd = fd;
  to_->HandleNewConnection(&connection);
}

void GrpcPort::Warn(std::string_view what) {
  {
    absl::MutexLock lock(&mu_);
    const absl::Time now = Now();
    if (now < next_warning_ || !options_.warn) return;
    next_warning_ = now + kWarnPeriod;
  }
  options_.warn(what);
}

}  // namespace mea
