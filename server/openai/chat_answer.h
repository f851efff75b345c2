#pragma once

#include <memory>

#include "server/openai/answer.h"
#include "server/openai/token_text.h"

namespace mea::openai {

// The entries of logprobs.content,
// with at most `num_top` likely tokens each.
Json LogprobsContent(const TokenText& tokens, const std::vector<PositionLogprob>& positions,
                     int num_top);

struct ChatAnswerOptions {
  bool stream = false;
  bool include_usage = false;  // of a stream: a last event with the usage
  bool logprobs = false;
  int top_logprobs = 0;
  bool prompt_logprobs = false;  // of a whole answer
  bool include_reasoning = true;
  bool return_token_ids = false;
};

// POST /v1/chat/completions: one prompt, n choices.
std::unique_ptr<Answer> MakeChatAnswer(AnswerInfo info, ChatAnswerOptions options,
                                       TokenText tokens);

}  // namespace mea::openai
