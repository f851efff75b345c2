#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/http_server.h"

namespace mea {

// Which route a request takes. Immutable.
class HttpRoutes {
 public:
  explicit HttpRoutes(std::vector<HttpServer::Route> routes) : routes_(std::move(routes)) {}

  struct Match {
    const HttpServer::Route* route = nullptr;  // null: no such path, or not with this method
    std::string allow;  // methods of the path, as in the header Allow; empty: no such path
  };
  Match Find(std::string_view method, std::string_view path) const;

 private:
  const std::vector<HttpServer::Route> routes_;
};

}  // namespace mea
