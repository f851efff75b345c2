#pragma once

#include <memory>

#include "server/openai/answer.h"
#include "server/openai/token_text.h"

namespace mea::openai {

struct CompletionAnswerOptions {
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  int top_logprobs = 0;
  bool prompt_logprobs = false;  // of a whole answer
  bool return_token_ids = false;
};

// POST /v1/completions: one or more prompts, n choices of each.
std::unique_ptr<Answer> MakeCompletionAnswer(AnswerInfo info, CompletionAnswerOptions options,
                                             TokenText tokens);

}  // namespace mea::openai
