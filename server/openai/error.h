#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/http/http_server.h"
#include "server/openai/json.h"

namespace mea::openai {

// The client's name for a field of GenerateRequest, if it is not the last part of its path.
using ParamNames = std::vector<std::pair<std::string, std::string>>;

// {"message", "type", "param", "code"} as OpenAI's clients read it.
Json ErrorObject(const absl::Status& status, const ParamNames& names = {});
// The HTTP status, the error object and, if a retry makes sense, Retry-After.
HttpAnswer ErrorAnswer(const absl::Status& status, const ParamNames& names = {});
// The same for refusals of the HTTP server itself.
HttpAnswer ErrorAnswer(int http_code, std::string_view message);

HttpAnswer JsonAnswer(const Json& json);

}  // namespace mea::openai
