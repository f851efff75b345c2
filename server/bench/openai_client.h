#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/bench/client.h"

namespace mea {

// How to reach a server. Files are in PEM.
struct OpenAiServer {
  std::string url;                // "http://host:port", "https://host:port"
  std::string api_key;            // empty: none
  std::string tls_ca;             // authorities of its certificate; empty: the system's
  std::string tls_cert, tls_key;  // of the client, for mutual TLS
};

// Streams of POST /v1/completions (server-sent events), over one kept connection for each client. A
// chunk counts as one token, unless the usage at the end says otherwise.
BenchClientFactory OpenAiBenchClients(OpenAiServer server, BenchCallOptions options);

// The first model that GET /v1/models names. UNAVAILABLE if nobody answers.
absl::StatusOr<std::string> AskOpenAiModel(const OpenAiServer& server);

}  // namespace mea
