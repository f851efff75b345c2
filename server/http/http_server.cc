#include "server/http/http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"
#include "server/address.h"
#include "server/http/connection.h"
#include "server/http/loop.h"
#include "server/notification.h"

namespace mea {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using error_code = boost::system::error_code;

constexpr int kMaxAccepts = 64;  // in a row, before connections are served
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);  // if there are no descriptors
constexpr absl::Duration kWarnPeriod = absl::Seconds(10);
constexpr absl::Duration kMaxTick = absl::Milliseconds(500);
constexpr absl::Duration kMinTick = absl::Milliseconds(5);

// How often deadlines are checked: a timeout is at most a quarter late, and at most half a second.
std::chrono::nanoseconds TickPeriod(const HttpOptions& options) {
  const absl::Duration least = std::min(
      {options.header_timeout, options.body_timeout, options.idle_timeout, options.write_timeout});
  return absl::ToChronoNanoseconds(std::clamp(least / 4, kMinTick, kMaxTick));
}

void Tick(const std::shared_ptr<HttpLoop>& loop, std::chrono::nanoseconds period) {
  if (loop->ticking) return;
  loop->ticking = true;
  loop->timer.expires_after(period);
  loop->timer.async_wait([loop, period](const error_code& ec) {
    loop->ticking = false;
    if (ec) return;
    const auto now = HttpLoop::Clock::now();
    const std::vector<std::shared_ptr<HttpConnection>> all(loop->connections.begin(),
                                                           loop->connections.end());
    for (const auto& connection : all) connection->OnTick(now);
    if (!loop->connections.empty()) Tick(loop, period);
  });
}

std::string PeerName(const sockaddr_storage& name) {
  error_code ignored;
  if (name.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name);
    asio::ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return Address{asio::ip::address_v6(bytes).to_string(), ntohs(v6.sin6_port)}.ToString();
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(name);
  return Address{asio::ip::address_v4(ntohl(v4.sin_addr.s_addr)).to_string(), ntohs(v4.sin_port)}
      .ToString();
}

class BeastServer final : public HttpServer {
 public:
  BeastServer(HttpOptions options, std::vector<Route> routes, std::string address, int listen_fd);
  ~BeastServer() override;

  void Serve() override;
  const std::string& address() const override { return address_; }
  void BeginDrain() override { site_->closes_after_answers = true; }
  void Drain(absl::Time deadline) override;

 private:
  struct Thread {
    std::shared_ptr<HttpLoop> loop;  // exchanges may outlive the server
    asio::executor_work_guard<asio::io_context::executor_type> work;
    std::thread thread;
  };

  void AwaitConnection();
  void AcceptSome();
  void Pause();
  void Admit(int fd, const sockaddr_storage& name);
  void TurnAway(int fd) const;
  bool TakePlace();
  void ForEachConnection(void (HttpConnection::*method)());

  const std::shared_ptr<HttpSite> site_;
  const std::string address_;
  const std::chrono::nanoseconds tick_;
  std::vector<Thread> threads_;
  size_t next_thread_ = 0;
  // Used by the first thread.
  asio::posix::stream_descriptor listener_;
  asio::steady_timer pause_;
  absl::Time next_warning_ = absl::InfinitePast();
};

BeastServer::BeastServer(HttpOptions options, std::vector<Route> routes, std::string address,
                         int listen_fd)
    : site_(new HttpSite{.options = std::move(options), .routes = HttpRoutes(std::move(routes))}),
      address_(std::move(address)),
      tick_(TickPeriod(site_->options)),
      threads_([&] {
        std::vector<Thread> threads;
        for (int i = 0; i < std::max(1, site_->options.num_threads); ++i) {
          auto loop = std::make_shared<HttpLoop>();
          auto work = asio::make_work_guard(loop->context);
          threads.push_back({std::move(loop), std::move(work), {}});
        }
        return threads;
      }()),
      listener_(threads_[0].loop->context, listen_fd),
      pause_(threads_[0].loop->context) {
  for (Thread& thread : threads_) {
    thread.thread = std::thread([loop = thread.loop.get()] { loop->context.run(); });
  }
}

BeastServer::~BeastServer() {
  Drain(Now());
  for (Thread& thread : threads_) {
    {
      absl::MutexLock lock(&thread.loop->mu);
      thread.loop->stopped = true;
    }
    thread.loop->context.stop();
    thread.thread.join();
    // Run the handlers that were posted last or that closed connections wait for: they hold the
    // loop.
    thread.work.reset();
    thread.loop->timer.cancel();
    pause_.cancel();
    thread.loop->context.restart();
    thread.loop->context.poll();
  }
}

void BeastServer::Serve() {
  threads_[0].loop->Post([this] { AwaitConnection(); });
}

void BeastServer::AwaitConnection() {
  listener_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const error_code& ec) {
    if (!ec) AcceptSome();
  });
}

void BeastServer::AcceptSome() {
  for (int i = 0; i < kMaxAccepts; ++i) {
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    const int fd = accept4(listener_.native_handle(), reinterpret_cast<sockaddr*>(&name), &length,
                           SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Admit(fd, name);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return Pause();  // otherwise that client has already gone
    }
  }
  AwaitConnection();
}

// The connection waits in the kernel until another one has closed.
void BeastServer::Pause() {
  const char* why = std::strerror(errno);
  if (const absl::Time now = Now(); now >= next_warning_ && site_->options.warn) {
    next_warning_ = now + kWarnPeriod;
    site_->options.warn(absl::StrCat("cannot accept connections on ", address_, ": ", why));
  }
  pause_.expires_after(absl::ToChronoNanoseconds(kAcceptPause));
  pause_.async_wait([this](const error_code& ec) {
    if (!ec) AcceptSome();
  });
}

bool BeastServer::TakePlace() {
  const std::lock_guard lock(site_->mutex);
  if (site_->num_connections >= site_->options.max_connections) return false;
  ++site_->num_connections;
  return true;
}

void BeastServer::Admit(int fd, const sockaddr_storage& name) {
  if (!TakePlace()) return TurnAway(fd);
  const std::shared_ptr<HttpLoop>& loop = threads_[next_thread_++ % threads_.size()].loop;
  tcp::socket socket(loop->context);
  error_code ec;
  socket.assign(name.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd, ec);
  auto connection =
      std::make_shared<HttpConnection>(loop, site_, HttpStream(std::move(socket)), PeerName(name));
  loop->Post([loop, connection = std::move(connection), period = tick_] {
    loop->connections.insert(connection);
    Tick(loop, period);
    connection->Start();
  });
}

// Writes as much of an answer as possible without waiting: nothing before a TLS handshake.
void BeastServer::TurnAway(int fd) const {
  if (site_->options.certificates) {
    close(fd);
    return;
  }
  char unread[4096];
  recv(fd, unread, sizeof(unread), MSG_DONTWAIT);  // a close with bytes unread would discard ours
  HttpAnswer answer = site_->ErrorAnswer(
      503, absl::StrCat("all ", site_->options.max_connections, " connections are taken"));
  answer.headers.emplace_back("Retry-After", "1");
  const std::string bytes =
      HttpHead(answer, HttpFraming::kLength, "close", site_->options.server_name, {}, absl::Now()) +
      answer.body;
  send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  shutdown(fd, SHUT_WR);
  close(fd);
}

void BeastServer::ForEachConnection(void (HttpConnection::*method)()) {
  for (const Thread& thread : threads_) {
    thread.loop->Post([loop = thread.loop, method] {
      loop->draining = true;
      const std::vector<std::shared_ptr<HttpConnection>> all(loop->connections.begin(),
                                                             loop->connections.end());
      for (const auto& connection : all) (connection.get()->*method)();
    });
  }
}

void BeastServer::Drain(absl::Time deadline) {
  Notification closed;
  threads_[0].loop->Post([&] {
    error_code ignored;
    listener_.close(ignored);
    pause_.cancel();
    closed.Notify();
  });
  closed.WaitForNotification();
  const auto none = [this] { return site_->num_connections == 0; };
  ForEachConnection(&HttpConnection::Drain);
  {
    std::unique_lock lock(site_->mutex);
    if (site_->all_closed.wait_until(lock, ToSteadyTime(deadline), none)) return;
  }
  ForEachConnection(&HttpConnection::CutOff);
  std::unique_lock lock(site_->mutex);
  site_->all_closed.wait(lock, none);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(HttpOptions options,
                                                               std::vector<Route> routes) {
  MEA_ASSIGN_OR_RETURN(Address address, ParseAddress(options.listen));
  MEA_ASSIGN_OR_RETURN(const int fd, mea::Listen(address));
  return std::make_unique<BeastServer>(std::move(options), std::move(routes), address.ToString(),
                                       fd);
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpOptions options,
                                                              std::vector<Route> routes) {
  MEA_ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> server,
                       Listen(std::move(options), std::move(routes)));
  server->Serve();
  return server;
}

}  // namespace mea
