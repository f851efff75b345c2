#include "server/openai/completion_answer.h"

#include <algorithm>
#include <span>
#include <utility>

namespace mea::openai {
namespace {

// The four growing lists of OpenAI's completions. Offsets count code points in the text of the
// choice, including an echoed prompt.
class Logprobs {
 public:
  void Add(const TokenText& tokens, const std::vector<PositionLogprob>& positions, int num_top) {
    for (const PositionLogprob& position : positions) {
      const std::string text = tokens.Text(position.token_id);
      lists_["text_offset"].push_back(position.text_offset);
      Json logprob;
      if (position.logprob) logprob = *position.logprob;
      lists_["token_logprobs"].push_back(logprob);
      lists_["tokens"].push_back(text);
      Json top;
      if (position.logprob) top = Json::object({{text, *position.logprob}});
      for (const TokenLogprob& likely :
           std::span(position.top).first(std::min<size_t>(position.top.size(), num_top))) {
        // Of tokens with the same text the more likely one is kept.
        top.emplace(tokens.Text(likely.token_id), likely.logprob);
      }
      lists_["top_logprobs"].push_back(std::move(top));
    }
  }
  Json Take() { return std::exchange(lists_, Empty()); }

 private:
  static Json Empty() {
    return {{"text_offset", Json::array()},
            {"token_logprobs", Json::array()},
            {"tokens", Json::array()},
            {"top_logprobs", Json::array()}};
  }

  Json lists_ = Empty();
};

Json Head(const AnswerInfo& info) {
  return {{"id", info.id},
          {"object", "text_completion"},
          {"created", info.created},
          {"model", info.model}};
}

class CompletionStream final : public ChunkStream {
 public:
  CompletionStream(AnswerInfo info, CompletionAnswerOptions options, TokenText tokens)
      : ChunkStream(std::move(info), "text_completion", options.include_usage),
        options_(options),
        tokens_(tokens),
        logprobs_(num_choices()) {}

  using ChunkStream::Add;
  void Add(int prompt, DeltaOutput delta) override {
    if (delta.text.empty() && !options_.logprobs && !options_.return_token_ids) return;
    const int index = ChoiceOf(prompt, delta.index);
    Json choice = {{"index", index},
                   {"text", std::move(delta.text)},
                   {"logprobs", nullptr},
                   {"finish_reason", nullptr}};
    if (options_.logprobs) {
      logprobs_[index].Add(tokens_, delta.logprobs, options_.top_logprobs);
      choice["logprobs"] = logprobs_[index].Take();
    }
    if (options_.return_token_ids) choice["token_ids"] = std::move(delta.token_ids);
    SendChunk(std::move(choice));
  }
  void Add(int prompt, FinishOutput finish) override {
    usage_.AddFinish(prompt, finish);
    SendChunk({{"index", ChoiceOf(prompt, finish.index)},
               {"text", ""},
               {"logprobs", nullptr},
               {"finish_reason", FinishReasonOf(finish)},
               {"stop_reason", StopReasonOf(finish)}});
  }

 private:
  const CompletionAnswerOptions options_;
  const TokenText tokens_;
  std::vector<Logprobs> logprobs_;  // by choice
};

class CompletionWhole final : public Answer {
 public:
  CompletionWhole(AnswerInfo info, CompletionAnswerOptions options, TokenText tokens)
      : Answer(std::move(info)),
        options_(options),
        tokens_(tokens),
        prompts_(info_.num_prompts),
        choices_(num_choices()) {}

  void Add(int prompt, PromptOutput output) override {
    usage_.AddPrompt(output);
    prompts_[prompt] = std::move(output);
  }
  void Add(int prompt, DeltaOutput delta) override {
    Gathered& choice = choices_[ChoiceOf(prompt, delta.index)];
    choice.text += delta.text;
    if (options_.logprobs) choice.logprobs.Add(tokens_, delta.logprobs, options_.top_logprobs);
    if (options_.return_token_ids) {
      choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(),
                              delta.token_ids.end());
    }
  }
  void Add(int prompt, FinishOutput finish) override {
    usage_.AddFinish(prompt, finish);
    choices_[ChoiceOf(prompt, finish.index)].finish = std::move(finish);
  }
  void End() override {
    Json choices = Json::array();
    for (int i = 0; i < num_choices(); ++i) {
      Gathered& choice = choices_[i];
      Json json = {{"index", i},
                   {"text", std::move(choice.text)},
                   {"logprobs", options_.logprobs ? choice.logprobs.Take() : Json(nullptr)},
                   {"finish_reason", FinishReasonOf(choice.finish)},
                   {"stop_reason", StopReasonOf(choice.finish)}};
      const PromptOutput& prompt = prompts_[i / info_.n];
      if (options_.return_token_ids) {
        json["token_ids"] = std::move(choice.token_ids);
        json["prompt_token_ids"] = prompt.token_ids;
      }
      if (options_.prompt_logprobs) {
        json["prompt_logprobs"] = PromptLogprobsJson(tokens_, prompt.logprobs);
      }
      choices.push_back(std::move(json));
    }
    Json body = Head(info_);
    body["choices"] = std::move(choices);
    body["usage"] = usage_.ToJson();
    text_ = Dump(body);
  }

 private:
  struct Gathered {
    std::string text;
    Logprobs logprobs;
    std::vector<int32_t> token_ids;
    FinishOutput finish;
  };

  const CompletionAnswerOptions options_;
  const TokenText tokens_;
  UsageSum usage_;
  std::vector<PromptOutput> prompts_;
  std::vector<Gathered> choices_;
};

}  // namespace

std::unique_ptr<Answer> MakeCompletionAnswer(AnswerInfo info, CompletionAnswerOptions options,
                                             TokenText tokens) {
  if (options.stream) return std::make_unique<CompletionStream>(std::move(info), options, tokens);
  return std::make_unique<CompletionWhole>(std::move(info), options, tokens);
}

}  // namespace mea::openai
