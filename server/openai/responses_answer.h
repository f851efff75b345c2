#pragma once

#include <memory>

#include "server/openai/answer.h"
#include "server/openai/token_text.h"

namespace mea::openai {

struct ResponsesAnswerOptions {
  bool stream = false;
  bool logprobs = false;
  int top_logprobs = 0;
  Json echoed;  // fields of the request that the response object repeats
};

// POST /v1/responses: one reply as a list of items: reasoning, message, function calls.
std::unique_ptr<Answer> MakeResponsesAnswer(AnswerInfo info, ResponsesAnswerOptions options,
                                            TokenText tokens);

}  // namespace mea::openai
