#include "server/admin_http.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/address.h"

namespace mea {
namespace {

constexpr int kNumThreads = 2;
constexpr absl::Duration kTimeout = absl::Seconds(5);  // of a request and its answer together
constexpr size_t kMaxHeadBytes = 8192;                 // request line and headers

// Waits until `fd` is ready; false when it is time to stop, or the deadline has passed.
bool Await(int fd, short events, int stop_fd, absl::Time deadline) {
  for (;;) {
    pollfd fds[] = {{fd, events, 0}, {stop_fd, POLLIN, 0}};
    const bool forever = deadline == absl::InfiniteFuture();
    const int64_t left_ms = forever ? -1 : absl::ToInt64Milliseconds(deadline - absl::Now());
    if (!forever && left_ms <= 0) return false;
    const int num_ready = poll(fds, 2, static_cast<int>(left_ms));
    if (num_ready < 0 && errno == EINTR) continue;
    return num_ready > 0 && fds[1].revents == 0;
  }
}

// The request line and headers; empty where they do not come, or are too long.
std::string ReadHead(int fd, int stop_fd, absl::Time deadline) {
  std::string head;
  char buffer[2048];
  while (head.find("\r\n\r\n") == head.npos) {
    if (head.size() > kMaxHeadBytes || !Await(fd, POLLIN, stop_fd, deadline)) return "";
    const ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n <= 0) return "";
    head.append(buffer, static_cast<size_t>(n));
  }
  return head;
}

void WriteAll(int fd, std::string_view bytes, int stop_fd, absl::Time deadline) {
  while (!bytes.empty() && Await(fd, POLLOUT, stop_fd, deadline)) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

std::string_view Reason(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return "Bad Request";
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<AdminHttp>> AdminHttp::Start(const std::string& text,
                                                            Handlers handlers) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) return address.status();
  const absl::StatusOr<int> fd = Listen(*address);
  if (!fd.ok()) return fd.status();
  return std::unique_ptr<AdminHttp>(new AdminHttp(std::move(handlers), address->ToString(), *fd));
}

AdminHttp::AdminHttp(Handlers handlers, std::string address, int listen_fd)
    : handlers_(std::move(handlers)),
      address_(std::move(address)),
      listen_fd_(listen_fd),
      stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  for (int i = 0; i < kNumThreads; ++i) threads_.emplace_back([this] { Run(); });
}

AdminHttp::~AdminHttp() {
  eventfd_write(stop_fd_, 1);
  for (std::thread& thread : threads_) thread.join();
  close(stop_fd_);
  close(listen_fd_);
}

void AdminHttp::Run() {
  while (Await(listen_fd_, POLLIN, stop_fd_, absl::InfiniteFuture())) {
    const int connection = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {  // the other thread was faster, the client is gone, or files are short
      if (errno == EMFILE || errno == ENFILE) absl::SleepFor(absl::Milliseconds(100));
      continue;
    }
    Serve(connection);
    close(connection);
  }
}

void AdminHttp::Serve(int connection) const {
  const absl::Time deadline = absl::Now() + kTimeout;
  const std::string head = ReadHead(connection, stop_fd_, deadline);
  if (head.empty()) return;
  const std::vector<std::string> words = absl::StrSplit(head.substr(0, head.find("\r\n")), ' ');
  const bool well_formed = words.size() == 3 && words[2].rfind("HTTP/1.", 0) == 0;
  const HttpAnswer answer = well_formed
                                ? Answer(words[0], words[1].substr(0, words[1].find('?')))
                                : HttpAnswer{.code = 400, .body = "not an HTTP/1.1 request\n"};
  std::string reply = absl::StrCat("HTTP/1.1 ", answer.code, " ", std::string(Reason(answer.code)),
                                   "\r\nContent-Type: ", answer.content_type,
                                   "\r\nContent-Length: ", answer.body.size(),
                                   "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
  if (words[0] != "HEAD") reply += answer.body;
  WriteAll(connection, reply, stop_fd_, deadline);
}

HttpAnswer AdminHttp::Answer(const std::string& method, const std::string& path) const {
  if (method != "GET" && method != "HEAD") return {.code = 405, .body = "only GET and HEAD\n"};
  const auto handler = handlers_.find(path);
  if (handler == handlers_.end()) return {.code = 404, .body = "there is /, /health, /metrics\n"};
  return handler->second();
}

}  // namespace mea
