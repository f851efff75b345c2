#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mea {

// One request of a measurement, whatever server it goes to.
struct BenchRequest {
  // Exactly one of the two is not empty.
  std::string text;
  std::vector<int32_t> token_ids;
  int max_tokens = 0;
  int cancel_after = 0;  // tokens after which the client cancels; 0: never
};

// Tokens that reached the client together.
struct TokenArrival {
  double seconds = 0;  // since the request was sent
  int tokens = 0;
};

// The status of a request that ended well, as gRPC writes it. Others: "RESOURCE_EXHAUSTED",
// "HTTP 429", ...
inline constexpr char kOkStatus[] = "OK";

// The outcome of one request. Times are in seconds.
struct RequestRecord {
  double late = 0;          // it was sent this much after its time
  double e2e = 0;           // from sending to the end
  std::string status;       // kOkStatus, or how it failed
  std::string message;      // of a failure
  bool cancelled = false;   // by the client, as planned: neither a success nor a failure
  bool retry_told = false;  // the refusal says when to retry
  std::vector<TokenArrival> arrivals;
  int num_tokens = 0;  // that arrived
  // As the server counts them; 0 if it does not say.
  int prompt_tokens = 0;
  int completion_tokens = 0;
  int cached_tokens = 0;
  int64_t kv_bytes = 0;
  int64_t kv_bytes_uncompressed = 0;

  bool ok() const { return status == kOkStatus && !cancelled; }
};

}  // namespace mea
