#pragma once

#include <vector>

#include "server/http/http_server.h"
#include "server/serving.h"

namespace mea::openai {

// The paths of the HTTP API: OpenAI's, and vLLM's for tokens and probes. `serving` outlives the
// server they are given to.
std::vector<HttpServer::Route> Routes(Serving& serving);

// OpenAPI 3.1 of those paths.
std::string_view OpenApiText();

}  // namespace mea::openai
