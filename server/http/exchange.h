#pragma once

#include <cstdint>
#include <memory>

#include "server/http/connection.h"
#include "server/http/http_server.h"

namespace mea {

// The exchange of request `id` of a connection, for any thread.
std::shared_ptr<HttpExchange> MakeExchange(std::shared_ptr<HttpConnection> connection, uint64_t id,
                                           HttpRequest request);

}  // namespace mea
