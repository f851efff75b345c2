#pragma once

#include <memory>
#include <optional>

#include "server/access/access.h"
#include "server/http/http_server.h"

namespace mea {

// The route for callers whose key has the right, or who have any key; others are refused by the
// head of their request.
HttpServer::Route Guard(std::shared_ptr<const Access> access, std::optional<Right> right,
                        HttpServer::Route route);

}  // namespace mea
