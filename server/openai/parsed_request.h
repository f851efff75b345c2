#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mea/v1/inference.pb.h"
#include "server/openai/answer.h"
#include "server/openai/error.h"
#include "server/openai/json.h"
#include "server/serving.h"

namespace mea::openai {

// A client's request: requests of mea.v1, one per prompt, and the form of the answer.
struct ParsedRequest {
  std::vector<v1::GenerateRequest> requests;
  ParamNames names;  // of fields whose errors come later
  bool stream = false;
  std::optional<absl::Duration> timeout;
  // If a request names none: as many as the context has room for, at most this many.
  std::optional<int> default_max_tokens;
  std::unique_ptr<Answer> answer;
};

// Each reads one kind of body. INVALID_ARGUMENT names the field as the client wrote it; ranges are
// left to FromProto. `id` is the answer's.
absl::StatusOr<ParsedRequest> ReadChatCompletion(const Json& body, const std::string& id,
                                                 const Serving& serving);
absl::StatusOr<ParsedRequest> ReadCompletion(const Json& body, const std::string& id,
                                             const Serving& serving);
absl::StatusOr<ParsedRequest> ReadResponse(const Json& body, const std::string& id,
                                           const Serving& serving);

}  // namespace mea::openai
