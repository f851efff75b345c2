#pragma once

#include <atomic>
#include <boost/system/error_code.hpp>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/answer.h"
#include "server/http/http_server.h"
#include "server/http/loop.h"
#include "server/http/request_parser.h"
#include "server/http/routes.h"
#include "server/http/stream.h"

namespace mea {

// Shared by all connections of a server. Outlives the server if an exchange does.
struct HttpSite {
  HttpOptions options;
  HttpRoutes routes;
  std::atomic<int64_t> bodies_bytes = 0;           // of requests that are being read
  std::atomic<bool> closes_after_answers = false;  // about to end
  std::mutex mutex;  // Abseil's waits with a timeout go by the wall clock
  std::condition_variable all_closed;
  int num_connections = 0;  // guarded by mutex

  HttpAnswer ErrorAnswer(int code, std::string_view message) const;
};

// One client's connection: reads a request, lets its route answer, and so on. Lives on one loop's
// thread, held by the loop and by its own operations until it closes. One read is always pending,
// so that a client that leaves is noticed while its answer is made; at most one write is pending.
class HttpConnection final : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(std::shared_ptr<HttpLoop> loop, std::shared_ptr<HttpSite> site, HttpStream stream,
                 std::string peer);

  void Start();
  void OnTick(HttpLoop::Clock::time_point now);
  void Drain();   // closes once no request is under way
  void CutOff();  // closes now

  // The methods of the exchange with that id; no effect if it is over.
  void Send(uint64_t id, HttpAnswer answer);
  void Begin(uint64_t id, HttpAnswer head);
  void Write(uint64_t id, std::string piece);
  void End(uint64_t id);
  void Abort(uint64_t id);
  void Abandon(uint64_t id);  // nobody will answer any more

  // Runs on the connection's thread, after earlier posts; never once the server is gone.
  template <typename Job>
  void Post(Job job) {
    loop_->Post(std::move(job));
  }

 private:
  using error_code = boost::system::error_code;

  enum class State {
    kReading,    // the next request, or waiting for it
    kAnswering,  // its route is making the answer
    kFlushing,   // the answer is complete, but the kernel does not have all of it yet
    kLingering,  // all is sent, but the client still sends and would lose the answer if we closed
    kClosed,
  };

  void OnHandshake(const error_code& ec);
  void Read();
  void OnRead(const error_code& ec, size_t count);
  void OnReadEnd(bool clean);
  void Parse(std::string_view bytes);
  bool AdmitBody();
  void ReleaseBody();
  void Discard(std::string_view bytes);

  void Adopt(const HttpRequest& request);
  void Dispatch(std::string_view rest);
  std::optional<HttpAnswer> RefusalOfRoute();
  void Refuse(int code, std::string_view message);
  void Refuse(HttpAnswer answer);
  void SendHere(HttpAnswer answer);

  bool IsDraining() const { return loop_->draining || site_->closes_after_answers; }
  bool IsCurrent(uint64_t id) const { return id == id_ && state_ == State::kAnswering; }
  std::string Head(const HttpAnswer& answer, HttpFraming framing);
  void Flush();
  void WriteSome();
  void OnWrote(const error_code& ec, size_t count);
  void OnAllWritten();
  void Finish();
  void Close();
  void SetDeadline(absl::Duration timeout);

  const std::shared_ptr<HttpLoop> loop_;
  const std::shared_ptr<HttpSite> site_;
  HttpStream stream_;
  const std::string peer_;

  State state_ = State::kReading;
  HttpLoop::Clock::time_point deadline_ = HttpLoop::Clock::time_point::max();  // of what is read
  HttpLoop::Clock::time_point write_deadline_ = HttpLoop::Clock::time_point::max();

  std::vector<char> in_;
  std::optional<RequestParser> parser_;  // while a request is read
  bool saw_header_ = false;              // of the request that is being read
  HttpLoop::Clock::time_point body_start_;
  int64_t body_bytes_ = 0;       // counted in the site's bodies_bytes
  int64_t discarded_bytes_ = 0;  // that came while an answer was being made

  // Of the request that is answered.
  uint64_t id_ = 0;
  std::shared_ptr<HttpCall> call_;
  HttpHeaders cors_;
  bool is_head_ = false;
  int http_minor_ = 1;
  bool close_after_ = false;  // the answer is the connection's last
  bool unread_ = false;       // the client may still be sending: linger before closing
  bool read_ended_ = false;   // it has closed its side
  HttpFraming framing_ = HttpFraming::kLength;
  bool begun_ = false;          // a streamed answer's head is written
  bool piece_pending_ = false;  // OnWritten is due

  std::string out_;      // to be written after `sending_`
  std::string sending_;  // with the kernel up to `sent_`
  size_t sent_ = 0;
  bool writing_ = false;
};

}  // namespace mea
