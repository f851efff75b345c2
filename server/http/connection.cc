#include "server/http/connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/access/certificates.h"
#include "server/http/exchange.h"

namespace mea {
namespace {

constexpr size_t kReadBytes = 4 << 10;
constexpr size_t kBodyReadBytes = 64 << 10;
constexpr size_t kKeptBytes = 64 << 10;  // of a write buffer that is used again
constexpr int64_t kMinBodyBytesPerSecond = 16 << 10;
// Bytes that a client may send after a request whose answer is being made; more ends the
// connection.
constexpr int64_t kMaxPipelinedBytes = 64 << 10;
// Bytes that are read and dropped, so that a client that is still sending receives its answer.
constexpr int64_t kMaxLingerBytes = 64 << 20;
constexpr absl::Duration kLingerTimeout = absl::Seconds(5);
constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";

// Some clients send an extra one at the end of a request.
bool IsEmptyLine(std::string_view bytes) { return bytes.find_first_not_of("\r\n") == bytes.npos; }

}  // namespace

HttpAnswer HttpSite::ErrorAnswer(int code, std::string_view message) const {
  if (options.error_answer) return options.error_answer(code, message);
  HttpAnswer answer{.code = code};
  answer.body.append(message).append("\n");
  return answer;
}

HttpConnection::HttpConnection(std::shared_ptr<HttpLoop> loop, std::shared_ptr<HttpSite> site,
                               HttpStream stream, std::string peer)
    : loop_(std::move(loop)),
      site_(std::move(site)),
      stream_(std::move(stream)),
      peer_(std::move(peer)) {}

void HttpConnection::Start() {
  stream_.SetOptions(site_->options.write_timeout);
  SetDeadline(site_->options.header_timeout);
  if (site_->options.certificates) {
    stream_.Handshake(site_->options.certificates->state()->context.get(),
                      [self = shared_from_this()](const error_code& ec) { self->OnHandshake(ec); });
  } else {
    Read();
  }
  if (loop_->draining) Drain();
}

void HttpConnection::OnHandshake(const error_code& ec) {
  if (state_ == State::kClosed) return;
  if (ec) return Close();
  SetDeadline(site_->options.header_timeout);
  Read();
}

void HttpConnection::SetDeadline(absl::Duration timeout) {
  deadline_ = HttpLoop::Clock::now() + absl::ToChronoNanoseconds(timeout);
}

void HttpConnection::OnTick(HttpLoop::Clock::time_point now) {
  if (state_ == State::kClosed) return;
  if (now >= write_deadline_) {
    Close();
  } else if (now >= deadline_) {
    if (state_ != State::kReading || !parser_ || !parser_->has_begun()) return Close();
    Refuse(408,
           absl::StrCat("the request's ", saw_header_ ? "body" : "header", " did not come within ",
                        absl::FormatDuration(saw_header_ ? site_->options.body_timeout
                                                         : site_->options.header_timeout)));
  }
}

void HttpConnection::Drain() {
  if (state_ == State::kReading && !(parser_ && parser_->has_begun())) Close();
}

void HttpConnection::CutOff() { Close(); }

// ---- what the client sends

void HttpConnection::Read() {
  const size_t wanted = state_ == State::kReading && saw_header_ ? kBodyReadBytes : kReadBytes;
  if (in_.size() != wanted) in_ = std::vector<char>(wanted);
  stream_.ReadSome(
      boost::asio::buffer(in_),
      [self = shared_from_this()](const error_code& ec, size_t count) { self->OnRead(ec, count); });
}

void HttpConnection::OnRead(const error_code& ec, size_t count) {
  if (state_ == State::kClosed) {
    // Not in Close: until here TLS may decrypt into it. Exchanges keep the connection even longer.
    return std::vector<char>().swap(in_);
  }
  if (ec) return OnReadEnd(ec == boost::asio::error::eof);
  const std::string_view bytes(in_.data(), count);
  if (state_ == State::kReading) {
    Parse(bytes);
  } else {
    Discard(bytes);
  }
  if (state_ != State::kClosed) Read();
}

// A client that closes its side before its answer is complete counts as gone, as in most servers;
// after that it may have closed on purpose.
void HttpConnection::OnReadEnd(bool clean) {
  if (clean && state_ == State::kFlushing) {
    read_ended_ = true;
  } else {
    Close();
  }
}

void HttpConnection::Parse(std::string_view bytes) {
  const HttpOptions& options = site_->options;
  if (!parser_) parser_.emplace(options.max_header_bytes, options.max_body_bytes);
  const bool had_begun = parser_->has_begun();
  if (!parser_->Put(bytes)) {
    return Refuse(parser_->refusal().code, parser_->refusal().message);
  }
  if (parser_->is_header_done() && !saw_header_) {
    if (std::optional<HttpAnswer> refusal = RefusalOfRoute()) return Refuse(*std::move(refusal));
  }
  if (!AdmitBody()) return Refuse(503, "too many requests are being received at once");
  if (parser_->is_done()) return Dispatch(bytes);
  if (!had_begun && parser_->has_begun()) SetDeadline(options.header_timeout);
  if (!parser_->is_header_done()) return;
  if (!saw_header_) {
    saw_header_ = true;
    body_start_ = HttpLoop::Clock::now();
    const std::string_view expected = parser_->request().Header("expect");
    if (!expected.empty() && parser_->http_minor() > 0) {
      if (!absl::EqualsIgnoreCase(absl::string_view(expected.data(), expected.size()),
                                  "100-continue")) {
        return Refuse(417, absl::StrCat("Expect '", Printable(expected), "' is not 100-continue"));
      }
      if (body_bytes_ == 0) {
        out_ += kContinue;
        Flush();
      }
    }
  }
  deadline_ =
      body_start_ + absl::ToChronoNanoseconds(options.body_timeout +
                                              absl::Seconds(body_bytes_ / kMinBodyBytesPerSecond));
}

// False if all bodies together would exceed their bound.
bool HttpConnection::AdmitBody() {
  const int64_t size = static_cast<int64_t>(parser_->request().body.size());
  const int64_t more = size - std::exchange(body_bytes_, size);
  return (site_->bodies_bytes += more) <= site_->options.max_bodies_bytes;
}

void HttpConnection::ReleaseBody() { site_->bodies_bytes -= std::exchange(body_bytes_, 0); }

// Input that arrives while an answer is being made is not parsed: pipelined requests are not
// answered.
void HttpConnection::Discard(std::string_view bytes) {
  if (IsEmptyLine(bytes)) return;
  close_after_ = unread_ = true;
  discarded_bytes_ += static_cast<int64_t>(bytes.size());
  if (discarded_bytes_ > (state_ == State::kAnswering ? kMaxPipelinedBytes : kMaxLingerBytes)) {
    Close();
  }
}

// ---- from a request to its answer

// The properties of the request that the head of the answer depends on.
void HttpConnection::Adopt(const HttpRequest& request) {
  deadline_ = HttpLoop::Clock::time_point::max();
  is_head_ = request.method == "HEAD";
  http_minor_ = parser_->http_minor();
  cors_ = CorsHeaders(request, site_->options.cors_origins);
  framing_ = HttpFraming::kLength;
  begun_ = piece_pending_ = unread_ = saw_header_ = false;
  discarded_bytes_ = 0;
}

// `rest` followed the request: pipelining is refused by closing after this answer.
void HttpConnection::Dispatch(std::string_view rest) {
  HttpRequest request = std::move(parser_->request());
  Adopt(request);
  unread_ = !IsEmptyLine(rest);
  close_after_ = unread_ || !parser_->keep_alive();
  parser_.reset();
  ReleaseBody();
  request.peer = peer_;
  const HttpRoutes::Match match = site_->routes.Find(request.method, request.path);
  if (match.route != nullptr && !IsFromAllowedPage(request, site_->options.cors_origins)) {
    SendHere(site_->ErrorAnswer(
        403, absl::StrCat("pages of ", Printable(request.Header("origin")),
                          " may not call this server: start it with --http-cors to allow them")));
  } else if (match.route != nullptr) {
    state_ = State::kAnswering;
    call_ = match.route->start(MakeExchange(shared_from_this(), ++id_, std::move(request)));
  } else if (request.method == "OPTIONS" && (!match.allow.empty() || request.path == "*")) {
    SendHere(OptionsAnswer(request, match.allow, !site_->options.cors_origins.empty()));
  } else if (match.allow.empty()) {
    SendHere(site_->ErrorAnswer(404, absl::StrCat("there is no ", Printable(request.path))));
  } else {
    HttpAnswer answer =
        site_->ErrorAnswer(405, absl::StrCat(Printable(request.path), " takes ", match.allow,
                                             ", not ", Printable(request.method)));
    answer.headers.emplace_back("Allow", match.allow);
    SendHere(std::move(answer));
  }
}

std::optional<HttpAnswer> HttpConnection::RefusalOfRoute() {
  const HttpRequest& head = parser_->request();
  const HttpRoutes::Match match = site_->routes.Find(head.method, head.path);
  if (match.route == nullptr || !match.route->refuse) return std::nullopt;
  return match.route->refuse(head);
}

// The answer to an invalid or refused request. It is the last one of the connection.
void HttpConnection::Refuse(int code, std::string_view message) {
  HttpAnswer answer = site_->ErrorAnswer(code, message);
  if (code == 503) answer.headers.emplace_back("Retry-After", "1");
  Refuse(std::move(answer));
}

void HttpConnection::Refuse(HttpAnswer answer) {
  Adopt(parser_->request());
  close_after_ = unread_ = true;
  parser_.reset();
  ReleaseBody();
  SendHere(std::move(answer));
}

void HttpConnection::SendHere(HttpAnswer answer) {
  state_ = State::kFlushing;
  out_ += Head(answer, HttpFraming::kLength);
  if (!is_head_ && answer.code != 204 && answer.code != 304) out_ += answer.body;
  Flush();
}

std::string HttpConnection::Head(const HttpAnswer& answer, HttpFraming framing) {
  if (IsDraining()) close_after_ = true;
  const std::string_view connection = close_after_ ? "close" : http_minor_ == 0 ? "keep-alive" : "";
  return HttpHead(answer, framing, connection, site_->options.server_name, cors_, absl::Now());
}

// ---- the exchange

void HttpConnection::Send(uint64_t id, HttpAnswer answer) {
  if (IsCurrent(id) && !begun_) SendHere(std::move(answer));
}

void HttpConnection::Begin(uint64_t id, HttpAnswer head) {
  if (!IsCurrent(id) || begun_) return;
  begun_ = true;
  framing_ = http_minor_ == 0 ? HttpFraming::kClose : HttpFraming::kChunked;
  if (framing_ == HttpFraming::kClose) close_after_ = true;
  out_ += Head(head, framing_);
  if (is_head_) {
    state_ = State::kFlushing;
    if (const auto call = std::move(call_)) call->OnGone();
    Flush();
  } else {  // the first piece has often been posted already and is sent with the header
    Post([self = shared_from_this()] { self->Flush(); });
  }
}

void HttpConnection::Write(uint64_t id, std::string piece) {
  if (!IsCurrent(id) || !begun_) return;
  if (framing_ == HttpFraming::kClose) {
    out_ += piece;
  } else if (!piece.empty()) {  // an empty chunk would be the last
    AppendChunk(piece, out_);
  }
  piece_pending_ = true;
  if (out_.empty() && !writing_) return OnAllWritten();
  Flush();
}

void HttpConnection::End(uint64_t id) {
  if (!IsCurrent(id) || !begun_) return;
  if (framing_ == HttpFraming::kChunked) out_ += kLastChunk;
  state_ = State::kFlushing;
  if (out_.empty() && !writing_) return OnAllWritten();
  Flush();
}

void HttpConnection::Abort(uint64_t id) {
  if (!IsCurrent(id)) return;
  if (framing_ == HttpFraming::kClose) {  // a plain end would look like the end of the answer
    error_code ignored;
    stream_.socket().set_option(boost::asio::socket_base::linger(true, 0), ignored);
  }
  call_.reset();  // the call already knows
  Close();
}

void HttpConnection::Abandon(uint64_t id) {
  if (!IsCurrent(id)) return;
  if (begun_) return Abort(id);
  SendHere(site_->ErrorAnswer(500, "the request was dropped without an answer"));
}

// ---- what goes to the client

void HttpConnection::Flush() {
  if (writing_ || out_.empty() || state_ == State::kClosed) return;
  writing_ = true;
  std::swap(out_, sending_);
  sent_ = 0;
  WriteSome();
}

void HttpConnection::WriteSome() {
  write_deadline_ =
      HttpLoop::Clock::now() + absl::ToChronoNanoseconds(site_->options.write_timeout);
  stream_.WriteSome(boost::asio::buffer(sending_.data() + sent_, sending_.size() - sent_),
                    [self = shared_from_this()](const error_code& ec, size_t count) {
                      self->OnWrote(ec, count);
                    });
}

void HttpConnection::OnWrote(const error_code& ec, size_t count) {
  if (state_ == State::kClosed) return;
  if (ec) return Close();
  sent_ += count;
  if (sent_ < sending_.size()) return WriteSome();
  writing_ = false;
  write_deadline_ = HttpLoop::Clock::time_point::max();
  sending_.clear();
  if (sending_.capacity() > kKeptBytes) std::string().swap(sending_);
  if (out_.empty()) {
    OnAllWritten();
  } else {
    Flush();
  }
}

void HttpConnection::OnAllWritten() {
  if (state_ == State::kFlushing) return Finish();
  if (state_ != State::kAnswering || !std::exchange(piece_pending_, false)) return;
  if (const auto call = call_) call->OnWritten();
}

// The kernel has the answer.
void HttpConnection::Finish() {
  call_.reset();
  cors_.clear();
  if (close_after_ && !read_ended_ && (unread_ || stream_.is_tls())) {
    state_ = State::kLingering;
    SetDeadline(std::min(kLingerTimeout, site_->options.idle_timeout));
    stream_.EndOutput(/*client_sends=*/unread_, shared_from_this());
  } else if (close_after_ || read_ended_ || IsDraining()) {
    Close();
  } else {
    state_ = State::kReading;
    SetDeadline(site_->options.idle_timeout);
  }
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();
  state_ = State::kClosed;
  if (const auto call = std::move(call_)) call->OnGone();
  error_code ignored;
  stream_.socket().close(ignored);
  parser_.reset();
  ReleaseBody();
  loop_->connections.erase(self);
  const std::lock_guard lock(site_->mutex);
  if (--site_->num_connections == 0) site_->all_closed.notify_all();
}

}  // namespace mea
