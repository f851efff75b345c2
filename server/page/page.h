#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/http_server.h"
#include "server/page/load_history.h"
#include "server/serving.h"

namespace mea {

// The page for people at "/", for everybody, and what it shows at "/status.json", for keys with the
// right `metrics`. `has_api`: the port serves /v1 as well, so that the page can chat. The others
// outlive the server that the routes are given to.
std::vector<HttpServer::Route> PageRoutes(Serving& serving, const LoadHistory& history,
                                          bool has_api);

// The Content-Security-Policy that lets `document` run its own script and style, ask its own
// server, and nothing else.
std::string ContentPolicy(std::string_view document);

}  // namespace mea
