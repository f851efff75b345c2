#include "server/http/exchange.h"

#include <atomic>
#include <utility>

namespace mea {
namespace {

// Posts to the thread of the connection, which knows whether the request is still the current one.
class ConnectionExchange final : public HttpExchange {
 public:
  ConnectionExchange(std::shared_ptr<HttpConnection> connection, uint64_t id, HttpRequest request)
      : connection_(std::move(connection)), id_(id), request_(std::move(request)) {}
  ~ConnectionExchange() override {
    if (over_) return;
    connection_->Post([c = connection_, id = id_] { c->Abandon(id); });
  }

  const HttpRequest& request() const override { return request_; }
  void Send(HttpAnswer answer) override {
    over_ = true;
    connection_->Post([c = connection_, id = id_, answer = std::move(answer)]() mutable {
      c->Send(id, std::move(answer));
    });
  }
  void Begin(HttpAnswer head) override {
    connection_->Post([c = connection_, id = id_, head = std::move(head)]() mutable {
      c->Begin(id, std::move(head));
    });
  }
  void Write(std::string piece) override {
    connection_->Post([c = connection_, id = id_, piece = std::move(piece)]() mutable {
      c->Write(id, std::move(piece));
    });
  }
  void End() override {
    over_ = true;
    connection_->Post([c = connection_, id = id_] { c->End(id); });
  }
  void Abort() override {
    over_ = true;
    connection_->Post([c = connection_, id = id_] { c->Abort(id); });
  }

 private:
  // Keeps the object, not the connection: it closes while the exchange lives.
  const std::shared_ptr<HttpConnection> connection_;
  const uint64_t id_;
  const HttpRequest request_;
  std::atomic<bool> over_ = false;
};

}  // namespace

std::shared_ptr<HttpExchange> MakeExchange(std::shared_ptr<HttpConnection> connection, uint64_t id,
                                           HttpRequest request) {
  return std::make_shared<ConnectionExchange>(std::move(connection), id, std::move(request));
}

}  // namespace mea
