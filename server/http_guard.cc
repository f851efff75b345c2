#include "server/http_guard.h"

#include <utility>

#include "server/openai/error.h"

namespace mea {

HttpServer::Route Guard(std::shared_ptr<const Access> access, std::optional<Right> right,
                        HttpServer::Route route) {
  if (!access->has_keys()) return route;
  route.refuse = [access = std::move(access), right, refuse = std::move(route.refuse)](
                     const HttpRequest& head) -> std::optional<HttpAnswer> {
    const absl::Status status = access->Check(head.Header("authorization"), right);
    if (!status.ok()) return openai::ErrorAnswer(status);
    return refuse ? refuse(head) : std::nullopt;
  };
  return route;
}

}  // namespace mea
