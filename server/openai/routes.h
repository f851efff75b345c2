#pragma once

#include <vector>

#include "server/http/http_server.h"
#include "server/serving.h"

namespace mea::openai {

// The paths of the HTTP API: OpenAI's, and vLLM's for tokens and probes. `serving` outlives the
// server they are given to. `open_metrics`: /metrics needs no key.
std::vector<HttpServer::Route> Routes(Serving& serving, bool open_metrics);

}  // namespace mea::openai
