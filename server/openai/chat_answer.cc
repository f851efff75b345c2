#include "server/openai/chat_answer.h"

#include <utility>

namespace mea::openai {
namespace {

Json TokenJson(const TokenText& tokens, int32_t id, const Json& logprob) {
  return {{"token", tokens.Text(id)}, {"logprob", logprob}, {"bytes", tokens.Bytes(id)}};
}

// In a stream `index` numbers the call, and only its first piece has id, type and name.
Json ToolCallJson(const ToolCallDelta& call, bool streamed) {
  Json json;
  if (streamed) json["index"] = call.index;
  const bool begins = !call.id.empty();
  if (begins) {
    json["id"] = call.id;
    json["type"] = "function";
    json["function"]["name"] = call.name;
  }
  json["function"]["arguments"] = call.arguments;
  return json;
}

class ChatStream final : public ChunkStream {
 public:
  ChatStream(AnswerInfo info, ChatAnswerOptions options, TokenText tokens)
      : ChunkStream(std::move(info), "chat.completion.chunk", options.include_usage),
        options_(options),
        tokens_(tokens) {}

  using ChunkStream::Add;
  void Add(int /*prompt*/, DeltaOutput delta) override {
    Begin(delta.index);
    ReplyDelta reply = delta.reply ? *std::move(delta.reply) : ReplyDelta{};
    Json message = Json::object();
    if (!reply.reasoning.empty() && options_.include_reasoning) {
      message["reasoning_content"] = std::move(reply.reasoning);
    }
    if (!reply.content.empty()) message["content"] = std::move(reply.content);
    for (const ToolCallDelta& call : reply.tool_calls) {
      message["tool_calls"].push_back(ToolCallJson(call, /*streamed=*/true));
    }
    // Tokens whose text is held back still have log-probabilities.
    if (message.empty() && !options_.logprobs && !options_.return_token_ids) return;
    Json choice = Choice(delta.index, std::move(message), nullptr);
    if (options_.logprobs)
      choice["logprobs"] = {
          {"content", LogprobsContent(tokens_, delta.logprobs, options_.top_logprobs)}};
    if (options_.return_token_ids) choice["token_ids"] = std::move(delta.token_ids);
    SendChunk(std::move(choice));
  }
  void Add(int prompt, FinishOutput finish) override {
    Begin(finish.index);
    usage_.AddFinish(prompt, finish);
    Json choice = Choice(finish.index, Json::object(), FinishReasonOf(finish));
    choice["stop_reason"] = StopReasonOf(finish);
    SendChunk(std::move(choice));
  }

 private:
  // The first event of a choice has the role.
  void Begin(int index) {
    if (std::ssize(begun_) <= index) begun_.resize(index + 1);
    if (begun_[index]) return;
    begun_[index] = true;
    SendChunk(Choice(index, {{"role", "assistant"}, {"content", ""}}, nullptr));
  }
  static Json Choice(int index, Json delta, const Json& finish_reason) {
    return {{"index", index},
            {"delta", std::move(delta)},
            {"logprobs", nullptr},
            {"finish_reason", finish_reason}};
  }

  const ChatAnswerOptions options_;
  const TokenText tokens_;
  std::vector<char> begun_;  // by choice
};

class ChatWhole final : public Answer {
 public:
  ChatWhole(AnswerInfo info, ChatAnswerOptions options, TokenText tokens)
      : Answer(std::move(info)), options_(options), tokens_(tokens), choices_(num_choices()) {}

  void Add(int /*prompt*/, PromptOutput output) override {
    usage_.AddPrompt(output);
    prompt_ = std::move(output);
  }
  void Add(int /*prompt*/, DeltaOutput delta) override {
    Gathered& choice = choices_[delta.index];
    if (delta.reply) choice.reply.Append(*std::move(delta.reply));
    if (options_.logprobs) {
      for (Json& entry : LogprobsContent(tokens_, delta.logprobs, options_.top_logprobs)) {
        choice.logprobs.push_back(std::move(entry));
      }
    }
    if (options_.return_token_ids) {
      choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(),
                              delta.token_ids.end());
    }
  }
  void Add(int prompt, FinishOutput finish) override {
    usage_.AddFinish(prompt, finish);
    choices_[finish.index].finish = std::move(finish);
  }
  void End() override {
    Json choices = Json::array();
    for (int i = 0; i < num_choices(); ++i) choices.push_back(ChoiceJson(i));
    Json body = {
        {"id", info_.id},       {"object", "chat.completion"},   {"created", info_.created},
        {"model", info_.model}, {"choices", std::move(choices)}, {"usage", usage_.ToJson()}};
    if (options_.return_token_ids) body["prompt_token_ids"] = std::move(prompt_.token_ids);
    if (options_.prompt_logprobs) {
      body["prompt_logprobs"] = PromptLogprobsJson(tokens_, prompt_.logprobs);
    }
    text_ = Dump(body);
  }

 private:
  struct Gathered {
    ReplyDelta reply;
    Json logprobs = Json::array();
    std::vector<int32_t> token_ids;
    FinishOutput finish;
  };

  Json ChoiceJson(int index) {
    Gathered& choice = choices_[index];
    Json message = {{"role", "assistant"}};
    const bool only_calls = choice.reply.content.empty() && !choice.reply.tool_calls.empty();
    message["content"] = only_calls ? Json(nullptr) : Json(std::move(choice.reply.content));
    message["refusal"] = nullptr;
    if (!choice.reply.reasoning.empty() && options_.include_reasoning) {
      message["reasoning_content"] = std::move(choice.reply.reasoning);
    }
    for (const ToolCallDelta& call : choice.reply.tool_calls) {
      message["tool_calls"].push_back(ToolCallJson(call, /*streamed=*/false));
    }
    Json json = {{"index", index},
                 {"message", std::move(message)},
                 {"logprobs", options_.logprobs ? Json{{"content", std::move(choice.logprobs)}}
                                                : Json(nullptr)},
                 {"finish_reason", FinishReasonOf(choice.finish)},
                 {"stop_reason", StopReasonOf(choice.finish)}};
    if (options_.return_token_ids) json["token_ids"] = std::move(choice.token_ids);
    return json;
  }

  const ChatAnswerOptions options_;
  const TokenText tokens_;
  UsageSum usage_;
  PromptOutput prompt_;
  std::vector<Gathered> choices_;
};

}  // namespace

Json LogprobsContent(const TokenText& tokens, const std::vector<PositionLogprob>& positions,
                     int num_top) {
  Json content = Json::array();
  for (const PositionLogprob& position : positions) {
    Json entry = TokenJson(tokens, position.token_id,
                           position.logprob ? Json(*position.logprob) : Json(nullptr));
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& top : position.top) {
      if (std::ssize(entry["top_logprobs"]) == num_top) break;
      entry["top_logprobs"].push_back(TokenJson(tokens, top.token_id, top.logprob));
    }
    content.push_back(std::move(entry));
  }
  return content;
}

std::unique_ptr<Answer> MakeChatAnswer(AnswerInfo info, ChatAnswerOptions options,
                                       TokenText tokens) {
  if (options.stream) return std::make_unique<ChatStream>(std::move(info), options, tokens);
  return std::make_unique<ChatWhole>(std::move(info), options, tokens);
}

}  // namespace mea::openai
