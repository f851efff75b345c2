#include "tests/server/http/http_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/address.h"

namespace mea::testing {

RawClient::RawClient() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval timeout{.tv_sec = 20};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

RawClient::RawClient(const std::string& address, int receive_buffer_bytes) : RawClient() {
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  Connect(address);
}

void RawClient::Connect(const std::string& address) {
  const auto parsed = ParseAddress(address);
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(parsed->port));
  inet_pton(AF_INET, parsed->host.c_str(), &peer.sin_addr);
  EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)), 0) << address;
}

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void RawClient::HalfClose() { shutdown(fd_, SHUT_WR); }

void RawClient::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void RawClient::Reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

bool RawClient::Fill() {
  char buffer[16 << 10];
  const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
  EXPECT_FALSE(n < 0 && errno == EAGAIN) << "nothing came; so far: " << received_;
  if (n <= 0) return false;
  received_.append(buffer, static_cast<size_t>(n));
  return true;
}

std::string RawClient::ReadUntil(std::string_view end) {
  size_t at;
  while ((at = received_.find(end)) == received_.npos) {
    if (!Fill()) return std::exchange(received_, "");
  }
  std::string text = received_.substr(0, at + end.size());
  received_.erase(0, at + end.size());
  return text;
}

std::string RawClient::ReadChunk() {
  const std::string line = ReadUntil("\r\n");
  size_t size = 0;
  if (!absl::SimpleHexAtoi(line.substr(0, line.size() - std::min<size_t>(line.size(), 2)), &size)) {
    return "";
  }
  while (received_.size() < size + 2) {
    if (!Fill()) return "";
  }
  EXPECT_EQ(received_.substr(size, 2), "\r\n");
  std::string chunk = received_.substr(0, size);
  received_.erase(0, size + 2);
  return chunk;
}

RawAnswer RawClient::Read(bool head_only) {
  RawAnswer answer;
  answer.head = ReadUntil("\r\n\r\n");
  if (!absl::StartsWith(answer.head, "HTTP/1.1 ")) return answer;
  EXPECT_TRUE(absl::SimpleAtoi(answer.head.substr(9, 3), &answer.code)) << answer.head;
  int64_t length = 0;
  if (head_only || answer.code == 204 || answer.code == 304) {
    answer.whole = true;
  } else if (answer.Header("Transfer-Encoding") == "chunked") {
    for (std::string size; (size = ReadUntil("\r\n")) != "0\r\n";) {
      if (size.empty()) return answer;
      received_.insert(0, size);
      answer.body += ReadChunk();
    }
    answer.whole = ReadUntil("\r\n") == "\r\n";
  } else if (absl::SimpleAtoi(answer.Header("Content-Length"), &length)) {
    while (std::ssize(received_) < length && Fill()) {
    }
    answer.whole = std::ssize(received_) >= length;
    answer.body = received_.substr(0, static_cast<size_t>(length));
    received_.erase(0, static_cast<size_t>(length));
  } else {
    while (Fill()) {
    }
    answer.body = std::exchange(received_, "");
  }
  return answer;
}

bool RawClient::HasBytes(absl::Duration within) {
  pollfd fd = {fd_, POLLIN, 0};
  return poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(within))) == 1;
}

bool RawClient::AtEnd() { return received_.empty() && !Fill(); }

std::string RawAnswer::Header(std::string_view name) const {
  const std::string start = absl::StrCat("\r\n", std::string(name), ": ");
  const size_t at = head.find(start);
  if (at == head.npos) return "";
  const size_t value = at + start.size();
  return head.substr(value, head.find("\r\n", value) - value);
}

bool TestCall::AwaitWritten(int count, absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  const auto enough = [&] { return num_written_ >= count; };
  return mu_.AwaitWithTimeout(absl::Condition(&enough), timeout);
}

bool TestCall::AwaitGone(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&gone_), timeout);
}

HttpFixture::HttpFixture(HttpOptions options) {
  options.listen = "127.0.0.1:0";
  options.server_name = "mea/test";
  options.warn = [this](std::string_view message) {
    absl::MutexLock lock(&mu_);
    warnings_.emplace_back(message);
  };
  const auto call = [this](std::shared_ptr<HttpExchange> exchange) {
    auto made = std::make_shared<TestCall>(std::move(exchange));
    absl::MutexLock lock(&mu_);
    calls_.push_back(made);
    return made;
  };
  using Exchange = std::shared_ptr<HttpExchange>;
  const auto hello = [](Exchange exchange) {
    exchange->Send({.body = "hello"});
    return nullptr;
  };
  const auto echo = [](Exchange exchange) {
    exchange->Send({.body = exchange->request().body});
    return nullptr;
  };
  const auto path = [](Exchange exchange) {
    exchange->Send({.body = exchange->request().path});
    return nullptr;
  };
  const auto unless_known = [](const HttpRequest& head) -> std::optional<HttpAnswer> {
    if (head.Header("x-known") == "yes") return std::nullopt;
    return HttpAnswer{.code = 401, .body = "who is there?"};
  };
  auto started = HttpServer::Start(std::move(options), {{"GET", "/hello", hello},
                                                        {"POST", "/echo", echo},
                                                        {"GET", "/call", call},
                                                        {"POST", "/call", call},
                                                        {"GET", "/below/*", path},
                                                        {"POST", "/guarded", echo, unless_known}});
  EXPECT_TRUE(started.ok()) << started.status();
  server = *std::move(started);
}

std::shared_ptr<TestCall> HttpFixture::AwaitCall() {
  absl::MutexLock lock(&mu_);
  const auto some = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !calls_.empty(); };
  if (!mu_.AwaitWithTimeout(absl::Condition(&some), absl::Seconds(20))) {
    ADD_FAILURE() << "no request came";
    return nullptr;
  }
  auto call = std::move(calls_.front());
  calls_.pop_front();
  return call;
}

std::vector<std::string> HttpFixture::warnings() {
  absl::MutexLock lock(&mu_);
  return warnings_;
}

}  // namespace mea::testing
