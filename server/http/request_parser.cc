#include "server/http/request_parser.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/http/answer.h"

namespace mea {
namespace {

namespace http = boost::beast::http;

constexpr int kMaxHeaders = 256;

// A chunked body may take this many bytes for each byte of content: a chunk of one byte takes six.
constexpr int64_t kMaxChunkedRatio = 8;
constexpr int64_t kMinChunkedBytes = 1 << 10;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

RequestParser::RequestParser(int max_header_bytes, int64_t max_body_bytes)
    : max_header_bytes_(max_header_bytes), max_body_bytes_(max_body_bytes) {
  header_limit(static_cast<uint32_t>(max_header_bytes));
  body_limit(static_cast<uint64_t>(max_body_bytes));
}

bool RequestParser::Put(std::string_view& bytes) {
  if (!has_begun_) {  // a client may end the request before this one with an empty line
    bytes.remove_prefix(std::min(bytes.find_first_not_of("\r\n"), bytes.size()));
    if (bytes.empty()) return true;
    has_begun_ = true;
  }
  if (rest_.empty()) {
    bytes.remove_prefix(Parse(bytes));
    if (!is_done()) {
      rest_ = bytes;
      bytes = {};
    }
  } else {
    rest_ += bytes;
    rest_.erase(0, Parse(rest_));
    bytes.remove_prefix(is_done() ? bytes.size() - rest_.size() : bytes.size());
  }
  CheckBounds();
  return refusal_.code == 0;
}

// Returns the bytes that were parsed; the rest needs more input.
size_t RequestParser::Parse(std::string_view bytes) {
  size_t used = 0;
  error_code ec;
  eager(false);  // parts one by one, because their bytes are counted
  while (used < bytes.size() && !is_done() && !ec) {
    const bool in_body = is_header_done();
    const size_t taken = put({bytes.data() + used, bytes.size() - used}, ec);
    used += taken;
    (in_body ? body_bytes_ : header_bytes_) += static_cast<int64_t>(taken);
    if (header_bytes_ > max_header_bytes_) ec = http::error::header_limit;
    if (std::exchange(took_chunk_header_, false)) {
      most_chunk_header_bytes_ = std::max<int64_t>(most_chunk_header_bytes_, taken);
    }
    if (taken == 0) break;
  }
  if (ec && ec != http::error::need_more && refusal_.code == 0) Explain(ec);
  return used;
}

// Of a request that is done, too: whether it is refused does not depend on how its bytes came.
void RequestParser::CheckBounds() {
  if (refusal_.code != 0) return;
  const int64_t unfinished = is_done() ? 0 : static_cast<int64_t>(rest_.size());
  if (!is_header_done()) {
    if (header_bytes_ + unfinished > max_header_bytes_) Explain(http::error::header_limit);
  } else if (std::max(unfinished, most_chunk_header_bytes_) > max_header_bytes_ ||
             body_bytes_ > kMaxChunkedRatio * max_body_bytes_ + kMinChunkedBytes) {
    refusal_ = {400, "the request's body spends too many bytes on the headers of its chunks"};
  }
}

void RequestParser::Refuse(int code, std::string message, error_code& ec) {
  refusal_ = {code, std::move(message)};
  ec = http::error::bad_field;
}

void RequestParser::Explain(const error_code& ec) {
  if (ec == http::error::header_limit) {
    refusal_ = {431, absl::StrCat("the request's header exceeds ", max_header_bytes_, " bytes")};
  } else if (ec == http::error::body_limit) {
    refusal_ = {413, absl::StrCat("the request's body exceeds ", max_body_bytes_, " bytes")};
  } else {
    refusal_ = {400, absl::StrCat("not an HTTP/1.1 request: ", ec.message())};
  }
}

void RequestParser::on_request_impl(http::verb, string_view method, string_view target, int version,
                                    error_code& ec) {
  http_minor_ = version - 10;
  request_.method = View(method);
  std::string_view path = View(target);
  for (std::string_view scheme : {"http://", "https://"}) {  // a client that takes us for a proxy
    if (!path.starts_with(scheme)) continue;
    path.remove_prefix(scheme.size());
    const size_t slash = path.find_first_of("/?");
    path = slash == path.npos ? "/" : path.substr(slash);
  }
  const size_t question = path.find('?');
  if (question != path.npos) request_.query = path.substr(question + 1);
  request_.path = path.substr(0, question);
  if (request_.path.empty()) request_.path = "/";
  if (request_.path[0] != '/' && request_.path != "*") {
    Refuse(400, absl::StrCat("request target '", Printable(View(target)), "' is no path"), ec);
  }
}

void RequestParser::on_field_impl(field name, string_view name_string, string_view value,
                                  error_code& ec) {
  if (is_header_done()) return;  // trailers are not used
  if (request_.headers.size() >= kMaxHeaders) {
    Refuse(431, absl::StrCat("the request has more than ", kMaxHeaders, " headers"), ec);
    return;
  }
  if (name == field::content_length) {
    ++num_content_lengths_;
    const auto is_digit = [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); };
    if (!std::all_of(value.begin(), value.end(), is_digit)) {
      Refuse(400,
             absl::StrCat("Content-Length '", Printable(View(value)), "' is not a number of bytes"),
             ec);
      return;
    }
  }
  if (name == field::transfer_encoding) {
    ++num_transfer_encodings_;
    if (!absl::EqualsIgnoreCase(absl::string_view(value.data(), value.size()), "chunked")) {
      Refuse(501, absl::StrCat("Transfer-Encoding '", Printable(View(value)), "' is not 'chunked'"),
             ec);
      return;
    }
  }
  std::string lower(View(name_string));
  absl::AsciiStrToLower(&lower);
  request_.headers.emplace_back(std::move(lower), View(value));
}

void RequestParser::on_header_impl(error_code& ec) {
  // One parser takes the first, another the last: a proxy could have checked the other one.
  for (const std::string_view name : {"authorization", "content-type", "host", "origin"}) {
    const auto is_name = [&](const auto& header) { return header.first == name; };
    if (std::count_if(request_.headers.begin(), request_.headers.end(), is_name) > 1) {
      return Refuse(400, absl::StrCat("more than one ", std::string(name)), ec);
    }
  }
  if (num_content_lengths_ > 1) return Refuse(400, "more than one Content-Length", ec);
  if (num_transfer_encodings_ > 0 && (num_content_lengths_ > 0 || http_minor_ == 0)) {
    Refuse(400,
           num_content_lengths_ > 0 ? "both Content-Length and Transfer-Encoding"
                                    : "Transfer-Encoding in HTTP/1.0",
           ec);
  }
}

size_t RequestParser::on_body_impl(string_view body, error_code&) {
  request_.body.append(body.data(), body.size());
  return body.size();
}

size_t RequestParser::on_chunk_body_impl(uint64_t, string_view body, error_code&) {
  request_.body.append(body.data(), body.size());
  return body.size();
}

}  // namespace mea
