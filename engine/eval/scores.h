#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine_core.h"
#include "engine/text/tokenizer.h"

namespace mea {

// A model's loss on a text.
struct TextScore {
  int64_t num_tokens = 0;  // predicted
  int64_t num_bytes = 0;   // of the text
  double nats = 0;         // sum of -log p
  double nats_per_token() const { return nats / static_cast<double>(num_tokens); }
  double nats_per_byte() const { return nats / static_cast<double>(num_bytes); }
};

using Document = std::vector<int32_t>;
using Documents = std::vector<Document>;

int64_t NumTokens(std::span<const Document> documents);
// INVALID_ARGUMENT for a token that a model of so many does not know.
absl::Status CheckTokens(std::span<const Document> documents, int vocab_size);
// The first documents, of so many tokens or a little more.
std::span<const Document> FirstTokens(std::span<const Document> documents, int64_t tokens);

// Reads the text as documents that end with one of `end_tokens` (a text without any is one
// document), each with the tokens that the tokenizer puts before a prompt. A document longer than
// `window` tokens is cut into windows that overlap by one token. So every token is predicted once,
// except those that have nothing before them. No document is shorter than two tokens.
absl::StatusOr<Documents> SplitDocuments(const Tokenizer& tokenizer, std::string_view text,
                                         std::span<const int32_t> end_tokens, int window);

// The loss on all tokens of the documents except their first; num_bytes stays 0. INVALID_ARGUMENT
// for a document longer than the model's context less one.
absl::StatusOr<TextScore> ScoreDocuments(EngineCore& core, std::span<const Document> documents);

// The requests that scoring sends: how many, and the tokens of the longest, including its output.
struct EvalRequests {
  int64_t count = 0;
  int longest = 0;
};
// For a text, and a model with a context of this many tokens.
absl::StatusOr<EvalRequests> RequestsOfText(const Tokenizer& tokenizer, std::string_view text,
                                            std::span<const int32_t> end_tokens, int max_context);

// The documents of a text, in windows as long as the model's context allows.
absl::StatusOr<TextScore> ScoreText(EngineCore& core, const Tokenizer& tokenizer,
                                    std::string_view text, std::span<const int32_t> end_tokens);

struct Question {
  std::string prompt;
  std::string answer;
};

// Reads {"prompt": ..., "answer": ...} lines; INVALID_ARGUMENT names file, line and field.
absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path);

struct TaskScore {
  int num_questions = 0;
  int num_correct = 0;
  double accuracy() const { return static_cast<double>(num_correct) / num_questions; }
};

EvalRequests RequestsOfTask(const Tokenizer& tokenizer, const std::vector<Question>& questions);

// A question is solved when the greedy continuation of its prompt begins with the answer.
absl::StatusOr<TaskScore> ScoreTask(EngineCore& core, const Tokenizer& tokenizer,
                                    const std::vector<Question>& questions);

// The most likely `num_tokens` tokens after each prompt, one after the other; no token ends them.
absl::StatusOr<Documents> ContinueGreedily(EngineCore& core, std::span<const Document> prompts,
                                           int num_tokens);

}  // namespace mea
