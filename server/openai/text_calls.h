#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/http/http_server.h"
#include "server/openai/json.h"
#include "server/serving.h"

namespace mea::openai {

// Answers that read a client's text and need no engine: made by a text worker.
using TextAnswer = absl::StatusOr<Json> (*)(const Json& body, const Serving& serving);

void AnswerOnTextWorker(Serving& serving, std::shared_ptr<HttpExchange> exchange,
                        TextAnswer answer);

// {"prompt"} or {"messages"} -> {"count", "max_model_len", "tokens", "token_strs"}.
absl::StatusOr<Json> Tokenize(const Json& body, const Serving& serving);
// {"tokens"} -> {"prompt"}.
absl::StatusOr<Json> Detokenize(const Json& body, const Serving& serving);

}  // namespace mea::openai
