#include "server/port_watch.h"

#include <netdb.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/clock.h"

namespace mea {
namespace {

constexpr int kAnswerTimeoutMs = 2000;

// Empty if the port answers: any data counts, also a close.
std::string ProblemOf(const sockaddr_storage& address, socklen_t length) {
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return std::strerror(errno);
  const absl::Cleanup closed = [fd] { close(fd); };
  pollfd ready = {fd, POLLOUT, 0};
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    if (errno != EINPROGRESS) return std::strerror(errno);
    if (poll(&ready, 1, kAnswerTimeoutMs) != 1) return "no connection";
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return std::strerror(error);
  }
  shutdown(fd, SHUT_WR);  // every protocol, including TLS, answers an immediate end
  ready.events = POLLIN;
  return poll(&ready, 1, kAnswerTimeoutMs) == 1 ? "" : "no answer";
}

}  // namespace

PortWatch::PortWatch(const std::vector<Address>& ports, absl::Duration period) : period_(period) {
  for (const Address& address : ports) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(address.port);
    if (getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found) != 0) continue;
    Port& added = ports_.emplace_back(Port{.name = address.ToString()});
    added.address_length = found->ai_addrlen;
    std::memcpy(&added.address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
  }
  thread_ = std::thread([this] { Run(); });
}

PortWatch::~PortWatch() {
  stop_.Notify();
  thread_.join();
}

PortWatch::Silence PortWatch::silence() const {
  absl::MutexLock lock(&mu_);
  Silence longest;
  for (const Port& port : ports_) {
    if (port.silence.time >= longest.time && !port.silence.problem.empty()) longest = port.silence;
  }
  return longest;
}

// Time is counted between probes, not since the last answer: a process that was stopped for an hour
// has not been silent.
void PortWatch::Run() {
  while (!stop_.WaitForNotificationWithTimeout(period_)) {
    for (Port& port : ports_) {
      const absl::Time asked = Now();
      const std::string problem = ProblemOf(port.address, port.address_length);
      absl::MutexLock lock(&mu_);
      port.silent_since =
          problem.empty() ? absl::InfiniteFuture() : std::min(asked, port.silent_since);
      if (problem.empty()) {
        port.silence = {};
      } else {
        port.silence = {Now() - port.silent_since, absl::StrCat(port.name, ": ", problem)};
      }
    }
  }
}

}  // namespace mea
