#include "engine/eval.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

// Collects the events of one request.
class Collector final : public TokenSink {
 public:
  void OnPromptLogprobs(std::vector<float> logprobs) override {
    prompt_logprobs = std::move(logprobs);
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
  if (absl::Status s = ValidateRequest(request, core.request_limits()); !s.ok()) return s;
  collectors.push_back(std::make_shared<Collector>());
  core.Add(std::move(request), collectors.back());
  return absl::OkStatus();
}

absl::Status RunToEnd(EngineCore& core, const Collectors& collectors) {
  while (core.has_work()) {
    core.Step(absl::InfinitePast());
    core.Deliver();
  }
  for (const auto& collector : collectors) {
    if (!collector->status.ok()) return collector->status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TextScore> ScoreText(EngineCore& core, const Tokenizer& tokenizer,
                                    std::string_view text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text, {.add_special_tokens = false});
  if (ids.size() < 2) return absl::InvalidArgumentError("the text has fewer than 2 tokens");
  TextScore score{.num_tokens = static_cast<int64_t>(ids.size()) - 1,
                  .num_bytes = static_cast<int64_t>(text.size())};

  // One token of the context is left for the output that every request has.
  const size_t window = core.request_limits().max_context - 1;
  Collectors collectors;
  for (size_t first = 0; first + 1 < ids.size(); first += window - 1) {
    const size_t end = std::min(first + window, ids.size());
    Request request{.prompt = {ids.begin() + first, ids.begin() + end}, .prompt_logprobs = true};
    request.stopping.max_tokens = 1;
    if (absl::Status s = Submit(core, std::move(request), collectors); !s.ok()) return s;
  }
  if (absl::Status s = RunToEnd(core, collectors); !s.ok()) return s;
  for (const auto& collector : collectors) {
    for (const float logprob : collector->prompt_logprobs) score.nats -= logprob;
  }
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
  // An answer may be cut into other tokens than its text alone would be.
  constexpr int kSpareTokens = 2;
  Collectors collectors;
  for (const Question& question : questions) {
    const EncodeOptions plain{.add_special_tokens = false};
    Request request{.prompt = tokenizer.Encode(question.prompt)};
    request.stopping.max_tokens =
        static_cast<int>(tokenizer.Encode(question.answer, plain).size()) + kSpareTokens;
    if (absl::Status s = Submit(core, std::move(request), collectors); !s.ok()) return s;
  }
  if (absl::Status s = RunToEnd(core, collectors); !s.ok()) return s;

  TaskScore score{.num_questions = static_cast<int>(questions.size())};
  for (size_t i = 0; i < questions.size(); ++i) {
    const std::string text = tokenizer.Decode(collectors[i]->tokens, /*skip_special_tokens=*/true);
    if (text.starts_with(questions[i].answer)) ++score.num_correct;
  }
  return score;
}

}  // namespace mea
