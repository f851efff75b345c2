#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/http/http_server.h"

namespace mea {

// One request from the bytes of a connection, over Beast's parser. Anything that two parsers may
// read differently is refused: a request must end at the same byte for us and for a proxy in front
// of us.
class RequestParser final : public boost::beast::http::basic_parser<true> {
 public:
  RequestParser(int max_header_bytes, int64_t max_body_bytes);

  // Why a request is refused: 0 as long as it is not.
  struct Refusal {
    int code = 0;
    std::string message;
  };

  // Consumes the bytes of this request from `bytes`; the rest comes after it. False: see refusal().
  bool Put(std::string_view& bytes);

  bool has_begun() const { return has_begun_; }
  const Refusal& refusal() const { return refusal_; }
  int http_minor() const { return http_minor_; }
  // As far as it has been read; whole once is_done().
  HttpRequest& request() { return request_; }

 private:
  using error_code = boost::beast::error_code;
  using string_view = boost::beast::string_view;
  using field = boost::beast::http::field;

  void on_request_impl(boost::beast::http::verb, string_view method, string_view target,
                       int version, error_code& ec) override;
  void on_response_impl(int, string_view, int, error_code&) override {}
  void on_field_impl(field name, string_view name_string, string_view value,
                     error_code& ec) override;
  void on_header_impl(error_code& ec) override;
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view body, error_code&) override;
  void on_chunk_header_impl(uint64_t, string_view, error_code&) override {
    took_chunk_header_ = true;
  }
  size_t on_chunk_body_impl(uint64_t, string_view body, error_code&) override;
  void on_finish_impl(error_code&) override {}

  void Refuse(int code, std::string message, error_code& ec);
  void Explain(const error_code& ec);
  size_t Parse(std::string_view bytes);
  void CheckBounds();

  const int64_t max_header_bytes_;
  const int64_t max_body_bytes_;
  HttpRequest request_;
  int http_minor_ = 1;
  int num_content_lengths_ = 0;
  int num_transfer_encodings_ = 0;
  bool has_begun_ = false;
  int64_t header_bytes_ = 0;
  int64_t body_bytes_ = 0;  // including the framing of chunks
  bool took_chunk_header_ = false;
  int64_t most_chunk_header_bytes_ = 0;  // of one; that of the last chunk has the trailers
  std::string rest_;  // a header, or a line before a chunk, whose end has not come
  Refusal refusal_;
};

}  // namespace mea
