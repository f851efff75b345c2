#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/http/http_server.h"

namespace mea::testing {

// An answer as it came, its chunks put together.
struct RawAnswer {
  int code = 0;  // 0: the connection ended before the head
  std::string head;
  std::string body;
  bool whole = false;  // it ended as its head says

  // The value of a header, by its name as the server writes it; empty where it is not there.
  std::string Header(std::string_view name) const;
};

// A client's connection, byte by byte. Waits for twenty seconds, then fails.
class RawClient {
 public:
  RawClient();  // not yet connected
  explicit RawClient(const std::string& address, int receive_buffer_bytes = 0);
  ~RawClient() { Close(); }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawClient(const RawClient&) = delete;

  void Connect(const std::string& address);

  // False where the server has gone.
  bool Send(std::string_view bytes);
  void HalfClose();
  void Close();
  void Reset();  // closes with RST

  RawAnswer Read(bool head_only = false);  // one answer
  RawAnswer Ask(std::string_view request) {
    EXPECT_TRUE(Send(request));
    return Read();
  }
  // One chunk of a streamed answer; empty: the last, or the end of the connection.
  std::string ReadChunk();
  // What comes until the text `end` has; all of it where the connection ends.
  std::string ReadUntil(std::string_view end);
  bool HasBytes(absl::Duration within);
  bool AtEnd();  // the server closes, and sends nothing more before

 private:
  bool Fill();

  int fd_;
  std::string received_;
};

// A call whose answer the test makes.
class TestCall final : public HttpCall {
 public:
  explicit TestCall(std::shared_ptr<HttpExchange> e) : exchange(std::move(e)) {}
  void OnWritten() override {
    absl::MutexLock lock(&mu_);
    ++num_written_;
  }
  void OnGone() override {
    absl::MutexLock lock(&mu_);
    gone_ = true;
  }
  // Whether it comes within `timeout`.
  bool AwaitWritten(int count, absl::Duration timeout = absl::Seconds(20));
  bool AwaitGone(absl::Duration timeout = absl::Seconds(20));

  const std::shared_ptr<HttpExchange> exchange;

 private:
  absl::Mutex mu_;
  int num_written_ ABSL_GUARDED_BY(mu_) = 0;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
};

// A server with these routes:
//   GET /hello       "hello"
//   POST /echo       the body
//   GET, POST /call  what the test answers
//   GET /below/*     the path
//   POST /guarded    the body, for who sends "X-Known: yes"; 401 for others
class HttpFixture {
 public:
  explicit HttpFixture(HttpOptions options = {});

  RawClient Connect(int receive_buffer_bytes = 0) const {
    return RawClient(server->address(), receive_buffer_bytes);
  }
  // The next request on /call.
  std::shared_ptr<TestCall> AwaitCall();
  std::vector<std::string> warnings();

 private:
  absl::Mutex mu_;
  std::deque<std::shared_ptr<TestCall>> calls_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mu_);

 public:
  std::unique_ptr<HttpServer> server;  // ends before what its routes use
};

inline constexpr char kGetHello[] = "GET /hello HTTP/1.1\r\n\r\n";
inline constexpr char kGetCall[] = "GET /call HTTP/1.1\r\n\r\n";

}  // namespace mea::testing
