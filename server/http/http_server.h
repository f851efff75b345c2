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

  // The first value of that name; empty if there is none.
  std::string_view Header(std::string_view lower_case_name) const;
};

// A whole answer, or the head of a streamed one.
struct HttpAnswer {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // Additional headers. The server itself writes Date, Server, Connection, Content-Length,
  // Transfer-Encoding and those of CORS.
  std::vector<std::pair<std::string, std::string>> headers;
};

// The answer's side of one request: exactly one of Send, or Begin, Writes and End. All methods may
// be called on any thread, even after the server is gone, and never block. If it is dropped without
// an answer, the client gets 500, or a stream that has begun is broken off.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  virtual void Send(HttpAnswer answer) = 0;

  // A streamed answer; the head's body is ignored. The next Write must wait for OnWritten of the
  // previous one; End may follow the last Write at once. HEAD gets the head, and its call OnGone.
  virtual void Begin(HttpAnswer head) = 0;
  virtual void Write(std::string piece) = 0;
  virtual void End() = 0;

  // Breaks off the connection, so that the client sees that the answer is incomplete.
  virtual void Abort() = 0;
};

// The side that answers. The server keeps it until the kernel has the answer or the client has
// gone. Both methods are called on the connection's thread and must never block.
class HttpCall {
 public:
  virtual ~HttpCall() = default;
  // The kernel has all that was written: write the next piece.
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

  // From the first byte, or from accept; before that, a TLS handshake may take as long.
  absl::Duration header_timeout = absl::Seconds(10);
  absl::Duration body_timeout = absl::Seconds(60);  // and a second for every 16 KiB that came
  absl::Duration idle_timeout = absl::Seconds(75);  // between requests
  // During which a client reads nothing of an answer.
  absl::Duration write_timeout = absl::Seconds(60);

  std::vector<std::string> cors_origins;  // that browsers may call from; "*": all

  // Makes the answers that the server gives by itself: 400, 404, 405, 408, 413, 417, 431, 500, 501,
  // 503. `message` is one line of printable ASCII. Null: the message as text.
  std::function<HttpAnswer(int code, std::string_view message)> error_answer;

  // A message for the operator, e.g. that no file descriptor is left; seldom. Any thread.
  std::function<void(std::string_view message)> warn;
};

// An HTTP/1.1 server: few threads, any number of connections. What clients send and leave unread is
// bounded in bytes and time by HttpOptions; see README.md.
class HttpServer {
 public:
  struct Route {
    std::string method;  // GET answers HEAD as well
    // Exact, or a prefix: "/v1/models/*". Exact ones are preferred, then longer ones.
    std::string path;
    // Called on the connection's thread; must never block. May return null if it has answered
    // already.
    std::function<std::shared_ptr<HttpCall>(std::shared_ptr<HttpExchange>)> start;
    // Decides by the head, before the body is received, whether the request is refused: then
    // returns the answer, the last one of the connection. Null: none is. Also called on the
    // connection's thread.
    std::function<std::optional<HttpAnswer>(const HttpRequest& head)> refuse = nullptr;
  };

  // Listens; connections wait in the kernel until Serve. INVALID_ARGUMENT for a bad address,
  // UNAVAILABLE for one that cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(HttpOptions options,
                                                            std::vector<Route> routes);
  // Listens and serves.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpOptions options,
                                                           std::vector<Route> routes);
  virtual ~HttpServer() = default;  // cuts off what still runs

  // Accepts connections from now on. Once.
  virtual void Serve() = 0;

  virtual const std::string& address() const = 0;  // with the real port

  // From now on every answer is its connection's last.
  virtual void BeginDrain() = 0;
  // Stops listening, closes idle connections, waits for current answers until the deadline and cuts
  // off the rest. Blocks; no route or call is used afterwards. Not from the server's threads.
  virtual void Drain(absl::Time deadline) = 0;
};

}  // namespace mea
