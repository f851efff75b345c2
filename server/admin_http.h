#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

struct mg_context;
struct mg_connection;

namespace mea {

struct HttpAnswer {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Answers GET on a handful of paths: metrics, health, status page. Two threads of its own; a client
// that does not speak for a few seconds is cut off.
class AdminHttp {
 public:
  using Handlers = std::map<std::string, std::function<HttpAnswer()>>;  // by path

  // `address` is host:port; port 0 takes a free one. INVALID_ARGUMENT, or UNAVAILABLE where the
  // port cannot be had.
  static absl::StatusOr<std::unique_ptr<AdminHttp>> Start(const std::string& address,
                                                          Handlers handlers);
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

  const std::string& address() const { return address_; }  // with the real port

 private:
  explicit AdminHttp(Handlers handlers) : handlers_(std::move(handlers)) {}
  static int Handle(mg_connection* connection);

  const Handlers handlers_;
  std::string address_;
  mg_context* context_ = nullptr;
};

}  // namespace mea
