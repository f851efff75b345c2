#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/bench/client.h"

namespace mea {

// Streams of POST /v1/completions (server-sent events), over one kept connection for each client.
// A chunk counts as one token, unless the usage at the end counts otherwise. `url` is
// "http://host:port".
BenchClientFactory OpenAiBenchClients(std::string url, BenchCallOptions options);

// The first model that GET /v1/models names. UNAVAILABLE where nobody answers.
absl::StatusOr<std::string> AskOpenAiModel(const std::string& url);

}  // namespace mea
