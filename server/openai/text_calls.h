#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/text/text_work.h"
#include "server/http/http_server.h"
#include "server/openai/json.h"
#include "server/serving.h"

namespace mea::openai {

// Answers that convert a client's text and need no engine; a text worker makes them.
using TextAnswer = absl::StatusOr<Json> (*)(const Json& body, const Serving& serving,
                                            StillWanted still_wanted);

// The call stops the work when its client has gone. Null if it is answered already.
std::shared_ptr<HttpCall> AnswerOnTextWorker(Serving& serving,
                                             std::shared_ptr<HttpExchange> exchange,
                                             TextAnswer answer);

// {"prompt"} or {"messages"} -> {"count", "max_model_len", "tokens", "token_strs"}.
absl::StatusOr<Json> Tokenize(const Json& body, const Serving& serving, StillWanted still_wanted);
// {"tokens"} -> {"prompt"}.
absl::StatusOr<Json> Detokenize(const Json& body, const Serving& serving, StillWanted still_wanted);

}  // namespace mea::openai
