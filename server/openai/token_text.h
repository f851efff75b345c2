#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"
#include "server/mailbox.h"
#include "server/openai/json.h"

namespace mea::openai {

// How log-probabilities name tokens: by their text, or as "token_id:123".
class TokenText {
 public:
  TokenText(const Tokenizer& tokenizer, bool as_ids) : tokenizer_(tokenizer), as_ids_(as_ids) {}

  // Valid UTF-8: a partial code point is shown as U+FFFD.
  std::string Text(int32_t id) const;
  // The bytes of the token, each a number.
  Json Bytes(int32_t id) const;

 private:
  const Tokenizer& tokenizer_;
  const bool as_ids_;
};

// vLLM's prompt_logprobs: for each token of a prompt its id and the likely ones with their
// log-probability, rank and text; null for the first.
Json PromptLogprobsJson(const TokenText& tokens, const std::vector<PositionLogprob>& positions);

}  // namespace mea::openai
