#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/http/http_server.h"
#include "server/openai/json.h"

namespace mea::openai {

// The client's name of a field of GenerateRequest, where it is not the last part of its path.
using ParamNames = std::vector<std::pair<std::string, std::string>>;

// {"message", "type", "param", "code"} as OpenAI's clients read it.
Json ErrorObject(const absl::Status& status, const ParamNames& names = {});
// The HTTP status, the error object and, where it is worth coming back, Retry-After.
HttpAnswer ErrorAnswer(const absl::Status& status, const ParamNames& names = {});
// The same for what the HTTP server itself refuses.
HttpAnswer ErrorAnswer(int http_code, std::string_view message);

HttpAnswer JsonAnswer(const Json& json);

}  // namespace mea::openai
