#include "engine/eval/scores.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// Collects the events of one request.
class Collector final : public TokenSink {
 public:
  void OnPromptLogprobs(std::vector<PromptLogprob> logprobs) override {
    for (const PromptLogprob& position : logprobs) prompt_logprobs.push_back(position.logprob);
  }
  void OnToken(TokenEvent event) override {
    if (!event.is_stop) tokens.push_back(event.token_id);
  }
  void OnFinish(FinishEvent event) override { status = event.status; }

  std::vector<float> prompt_logprobs;
  std::vector<int32_t> tokens;
  absl::Status status;
};

using Collectors = std::vector<std::shared_ptr<Collector>>;

absl::Status Submit(EngineCore& core, Request request, Collectors& collectors) {
  request.id = absl::StrCat("eval-", collectors.size());
  request.sampling.temperature = 0;
  MEA_RETURN_IF_ERROR(ValidateRequest(request, core.request_limits()));
  collectors.push_back(std::make_shared<Collector>());
  core.Add(std::move(request), collectors.back());
  return absl::OkStatus();
}

absl::Status RunToEnd(EngineCore& core, const Collectors& collectors) {
  while (core.has_work()) {
    core.RunStep(absl::InfinitePast());
    core.Deliver();
  }
  for (const auto& collector : collectors) {
    if (!collector->status.ok()) return collector->status;
  }
  return absl::OkStatus();
}

// One token of the context is left for the output that every request has.
int WindowOf(int max_context) { return max_context - 1; }

Request RequestOf(const Tokenizer& tokenizer, const Question& question) {
  // The tokens of an answer may differ from those of its text alone.
  constexpr int kSpareTokens = 2;
  const EncodeOptions plain{.add_special_tokens = false};
  Request request{.prompt = tokenizer.Encode(question.prompt)};
  request.stopping.max_tokens =
      static_cast<int>(tokenizer.Encode(question.answer, plain).size()) + kSpareTokens;
  return request;
}

}  // namespace

int64_t NumTokens(std::span<const Document> documents) {
  int64_t count = 0;
  for (const Document& document : documents) count += std::ssize(document);
  return count;
}

absl::Status CheckTokens(std::span<const Document> documents, int vocab_size) {
  for (const Document& document : documents) {
    for (const int32_t id : document) {
      if (id < vocab_size) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " is beyond vocab_size ", vocab_size));
    }
  }
  return absl::OkStatus();
}

std::span<const Document> FirstTokens(std::span<const Document> documents, int64_t tokens) {
  size_t count = 0;
  for (int64_t sum = 0; count < documents.size() && sum < tokens; ++count) {
    sum += std::ssize(documents[count]);
  }
  return documents.first(count);
}

absl::StatusOr<EvalRequests> RequestsOfText(const Tokenizer& tokenizer, std::string_view text,
                                            std::span<const int32_t> end_tokens, int max_context) {
  MEA_ASSIGN_OR_RETURN(const Documents documents,
                       SplitDocuments(tokenizer, text, end_tokens, WindowOf(max_context)));
  EvalRequests requests;
  for (const std::vector<int32_t>& document : documents) {
    ++requests.count;
    requests.longest = std::max(requests.longest, static_cast<int>(document.size()) + 1);
  }
  return requests;
}

EvalRequests RequestsOfTask(const Tokenizer& tokenizer, const std::vector<Question>& questions) {
  EvalRequests requests;
  for (const Question& question : questions) {
    const Request request = RequestOf(tokenizer, question);
    ++requests.count;
    requests.longest = std::max(
        requests.longest, static_cast<int>(request.prompt.size()) + request.stopping.max_tokens);
  }
  return requests;
}

absl::StatusOr<Documents> SplitDocuments(const Tokenizer& tokenizer, std::string_view text,
                                         std::span<const int32_t> end_tokens, int window) {
  const std::vector<int32_t> opening = tokenizer.Encode("");
  TextWork work;
  MEA_ASSIGN_OR_RETURN(const auto ids, tokenizer.Encode(text, {.add_special_tokens = false}, work));
  Documents wholes;
  bool is_open = false;
  for (const int32_t id : ids) {
    if (!std::exchange(is_open, true)) wholes.push_back(opening);
    wholes.back().push_back(id);
    if (std::find(end_tokens.begin(), end_tokens.end(), id) != end_tokens.end()) is_open = false;
  }
  Documents documents;
  for (const std::vector<int32_t>& whole : wholes) {
    for (size_t first = 0; first + 1 < whole.size(); first += window - 1) {
      const size_t end = std::min(first + window, whole.size());
      documents.emplace_back(whole.begin() + first, whole.begin() + end);
    }
  }
  return documents;
}

absl::StatusOr<TextScore> ScoreDocuments(EngineCore& core, std::span<const Document> documents) {
  TextScore score;
  Collectors collectors;
  for (const Document& document : documents) {
    Request request{.prompt = document, .prompt_logprobs = true};
    request.stopping.max_tokens = 1;
    MEA_RETURN_IF_ERROR(Submit(core, std::move(request), collectors));
  }
  MEA_RETURN_IF_ERROR(RunToEnd(core, collectors));
  for (const auto& collector : collectors) {
    for (const float logprob : collector->prompt_logprobs) score.nats -= logprob;
    score.num_tokens += static_cast<int64_t>(collector->prompt_logprobs.size());
  }
  return score;
}

absl::StatusOr<TextScore> ScoreText(EngineCore& core, const Tokenizer& tokenizer,
                                    std::string_view text, std::span<const int32_t> end_tokens) {
  const int window = WindowOf(core.request_limits().max_context);
  MEA_ASSIGN_OR_RETURN(const Documents documents,
                       SplitDocuments(tokenizer, text, end_tokens, window));
  MEA_ASSIGN_OR_RETURN(TextScore score, ScoreDocuments(core, documents));
  if (score.num_tokens == 0) return absl::InvalidArgumentError("the text has no token to predict");
  score.num_bytes = static_cast<int64_t>(text.size());
  return score;
}

absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::vector<Question> questions;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    for (const char* field : {"prompt", "answer"}) {
      if (!json.is_object() || !json.contains(field) || !json[field].is_string()) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ":", number, ": \"", field, "\" is not a string of an object"));
      }
    }
    questions.push_back({json["prompt"], json["answer"]});
  }
  if (questions.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": no questions"));
  return questions;
}

absl::StatusOr<TaskScore> ScoreTask(EngineCore& core, const Tokenizer& tokenizer,
                                    const std::vector<Question>& questions) {
  Collectors collectors;
  for (const Question& question : questions) {
    MEA_RETURN_IF_ERROR(Submit(core, RequestOf(tokenizer, question), collectors));
  }
  MEA_RETURN_IF_ERROR(RunToEnd(core, collectors));

  TaskScore score{.num_questions = static_cast<int>(questions.size())};
  for (size_t i = 0; i < questions.size(); ++i) {
    const std::string text = tokenizer.Decode(collectors[i]->tokens, /*skip_special_tokens=*/true);
    if (text.starts_with(questions[i].answer)) ++score.num_correct;
  }
  return score;
}

absl::StatusOr<Documents> ContinueGreedily(EngineCore& core, std::span<const Document> prompts,
                                           int num_tokens) {
  Collectors collectors;
  for (const Document& prompt : prompts) {
    Request request{.prompt = prompt};
    request.stopping = {.max_tokens = num_tokens, .ignore_eos = true};
    MEA_RETURN_IF_ERROR(Submit(core, std::move(request), collectors));
  }
  MEA_RETURN_IF_ERROR(RunToEnd(core, collectors));
  Documents continuations;
  for (const auto& collector : collectors) continuations.push_back(std::move(collector->tokens));
  return continuations;
}

}  // namespace mea
