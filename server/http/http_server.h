#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mea {

class Certificates;

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // as sent, without the query
  std::string query;   // after '?'
  std::string body;
  std::string peer;                                          // address:port
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  // The first value of that name; empty where there is none.
  std::string_view Header(std::string_view lower_case_name) const;
};

// A whole answer, or the head of a streamed one.
struct HttpAnswer {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // Further ones. The server itself writes Date, Server, Connection, Content-Length,
  // Transfer-Encoding and those of CORS.
  std::vector<std::pair<std::string, std::string>> headers;
};

// The answer's side of one request: exactly one of Send, or Begin, Writes and End. All methods may
// be called on any thread, even after the server is gone, and never block. One that is dropped
// without an answer answers 500, or breaks off a stream that has begun.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  virtual void Send(HttpAnswer answer) = 0;

  // A streamed answer; the head's body is ignored. The next Write comes after OnWritten of the one
  // before; End may follow the last Write at once. HEAD gets the head, and its call OnGone.
  virtual void Begin(HttpAnswer head) = 0;
  virtual void Write(std::string piece) = 0;
  virtual void End() = 0;

  // Breaks the connection off, so that the client sees that the answer is not whole.
  virtual void Abort() = 0;
};

// Who answers. The server keeps it until the answer is with the kernel, or the client has gone.
// Both methods are called on the connection's thread and never block.
class HttpCall {
 public:
  virtual ~HttpCall() = default;
  // All that was written is with the kernel: write the next piece.
  virtual void OnWritten() {}
  // The answer cannot be completed; the methods of the exchange do nothing from now on.
  virtual void OnGone() {}
};

struct HttpOptions {
  std::string listen;                                // HOST:PORT; port 0 takes a free one
  std::string server_name = "mea";                   // of the header Server
  int num_threads = 1;                               // a connection stays with one of them
  std::shared_ptr<const Certificates> certificates;  // TLS with these; null: none

  int max_connections = 4096;            // more are answered 503 and closed
  int max_header_bytes = 16 << 10;       // request line and headers; more: 431
  int64_t max_body_bytes = 8 << 20;      // more: 413
  int64_t max_bodies_bytes = 256 << 20;  // of all bodies that are being read together; more: 503

  // From the first byte, or from accept; a TLS handshake may take as long before that.
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(60);   // and a second for every 16 KiB that came
  absl::Duration idle_timeout = absl::Seconds(75);   // between requests
  absl::Duration write_timeout = absl::Seconds(60);  // that a client takes nothing of an answer

  std::vector<std::string> cors_origins;  // that browsers may call from; "*": all

  // Makes the answers that the server gives by itself: 400, 404, 405, 408, 413, 417, 431, 500, 501,
  // 503. `message` is one line of printable ASCII. Null: the message as text.
  std::function<HttpAnswer(int code, std::string_view message)> error_answer;

  // What the operator should know, e.g. that no file descriptor is left; seldom. Any thread.
  std::function<void(std::string_view message)> warn;
};

// An HTTP/1.1 server: few threads, any number of connections. What clients send and leave unread is
// bounded in bytes and time by HttpOptions; see README.md.
class HttpServer {
 public:
  struct Route {
    std::string method;  // GET answers HEAD as well
    // Exact, or everything below: "/v1/models/*". Exact ones are preferred, then longer ones.
    std::string path;
    // On the connection's thread; never blocks. May return null where it has answered already.
    std::function<std::shared_ptr<HttpCall>(std::shared_ptr<HttpExchange>)> start;
    // Whether the request may go on, by its head, before its body is received; where not, the
    // answer, the connection's last. Null: all may. Likewise on the connection's thread.
    std::function<std::optional<HttpAnswer>(const HttpRequest& head)> refuse = nullptr;
  };

  // Listens and serves. INVALID_ARGUMENT for a bad address, UNAVAILABLE for one that cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpOptions options,
                                                           std::vector<Route> routes);
  virtual ~HttpServer() = default;  // cuts off what still runs

  virtual const std::string& address() const = 0;  // with the real port

  // From now on every answer is its connection's last.
  virtual void BeginDrain() = 0;
  // Stops listening, closes idle connections, waits for answers under way until the deadline and
  // cuts off the rest. Blocks; no route or call is used afterwards. Not from the server's threads.
  virtual void Drain(absl::Time deadline) = 0;
};

}  // namespace mea
