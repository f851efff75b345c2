#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "server/serving.h"

namespace mea {

// The load of the server beside an answer (ORCA), for balancers that ask for it with each request.
// Names of metrics: kv_cache_utilization and, as vLLM calls the same, kv_cache_usage_perc;
// num_requests_waiting, num_requests_running.

// The header, or metadata, that asks: "TEXT", "JSON" or "BIN".
inline constexpr char kLoadFormatHeader[] = "endpoint-load-metrics-format";

// The trailer that answers: its name and value; nothing for a format that is none. Names that end
// in
// "-bin" have bytes, as gRPC takes them.
std::optional<std::pair<std::string, std::string>> LoadReport(std::string_view format,
                                                              const Serving& serving);
// The same as a header of HTTP, which has bytes in base64.
std::optional<std::pair<std::string, std::string>> HttpLoadReport(std::string_view format,
                                                                  const Serving& serving);

}  // namespace mea
