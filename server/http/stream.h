#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <utility>

#include "absl/time/time.h"

namespace mea {

// TCP, or TLS over it. One thread.
class HttpStream {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  explicit HttpStream(Socket socket) : socket_(std::move(socket)) {}
  HttpStream(HttpStream&& other) noexcept : socket_(std::move(other.socket_)) {}  // not yet TLS

  Socket& socket() { return socket_; }
  void SetOptions(absl::Duration write_timeout);
  bool is_tls() const { return tls_ != nullptr; }

  // TLS from here on, as `context` has it. handler(error_code)
  template <typename Handler>
  void Handshake(SSL_CTX* context, Handler handler) {
    SSL_CTX_up_ref(context);
    boost::asio::ssl::context borrowed(context);  // takes over that reference
    tls_ = std::make_unique<Tls>(socket_, borrowed);
    tls_->async_handshake(Tls::server, std::move(handler));
  }

  // handler(error_code, size_t)
  template <typename Buffers, typename Handler>
  void ReadSome(const Buffers& buffers, Handler handler) {
    if (tls_) {
      tls_->async_read_some(buffers, std::move(handler));
    } else {
      socket_.async_read_some(buffers, std::move(handler));
    }
  }
  template <typename Buffers, typename Handler>
  void WriteSome(const Buffers& buffers, Handler handler) {
    if (tls_) {
      tls_->async_write_some(buffers, std::move(handler));
    } else {
      socket_.async_write_some(buffers, std::move(handler));
    }
  }

  // Says that nothing more is sent. After that, TLS accepts no data, not even to drop it, so a
  // client that still sends is not told. `owner` lives until it is done.
  template <typename Owner>
  void EndOutput(bool client_sends, Owner owner) {
    boost::system::error_code ignored;
    if (!tls_) {
      socket_.shutdown(Socket::shutdown_send, ignored);
    } else if (!client_sends) {
      tls_->async_shutdown([owner](const boost::system::error_code&) {});
    }
  }

 private:
  using Tls = boost::asio::ssl::stream<Socket&>;

  Socket socket_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace mea
