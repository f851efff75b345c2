// POST /v1/chat/completions in front of a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/http/http_fixture.h"
#include "tests/server/openai/api_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kChatPath[] = "/v1/chat/completions";

const Json kWeatherTool = {
    {"type", "function"},
    {"function",
     {{"name", "weather"},
      {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}}}};

std::string PromptOf(const FakeEngine& engine) {
  const std::vector<int32_t> ids = engine.last_request().prompt;
  return {ids.begin(), ids.end()};
}

// The deltas of a stream's only choice, put together as clients do.
Json Assemble(const std::vector<Json>& events) {
  Json message = {{"content", ""}, {"reasoning_content", ""}, {"tool_calls", Json::array()}};
  for (const Json& event : events) {
    for (const Json& choice : event["choices"]) {
      const Json& delta = choice["delta"];
      for (const char* field : {"content", "reasoning_content"}) {
        if (delta.contains(field)) {
          message[field] = message[field].get<std::string>() + delta[field].get<std::string>();
        }
      }
      for (const Json& call : delta.value("tool_calls", Json::array())) {
        Json& calls = message["tool_calls"];
        if (call.contains("id")) {
          calls.push_back(call);
        } else {
          Json& arguments = calls[call["index"].get<int>()]["function"]["arguments"];
          arguments =
              arguments.get<std::string>() + call["function"]["arguments"].get<std::string>();
        }
      }
      if (!choice["finish_reason"].is_null()) message["finish_reason"] = choice["finish_reason"];
    }
  }
  return message;
}

TEST(OpenAiChatTest, AnswersWithOneMessageAndItsUsage) {
  ApiFixture f;
  f.engine.SetAnswer("Good day.");
  const ApiAnswer answer = f.Post(kChatPath, UserSays("Hi"));
  ASSERT_EQ(answer.code, 200) << answer.body;
  EXPECT_EQ(PromptOf(f.engine), "user: Hi\nassistant: ");
  const Json json = answer.json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_THAT(json["id"].get<std::string>(), StartsWith("chatcmpl-"));
  EXPECT_EQ(json["model"], "fake");
  EXPECT_EQ(json["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "Good day.");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 20);
  EXPECT_EQ(json["usage"]["completion_tokens"], 10);
  EXPECT_EQ(json["usage"]["total_tokens"], 30);
  EXPECT_GT(json["usage"]["kv_cache"]["bytes_uncompressed"], json["usage"]["kv_cache"]["bytes"]);
}

TEST(OpenAiChatTest, StreamSaysTheSameInPieces) {
  ApiFixture f;
  f.engine.SetAnswer("Good day.");
  Json body = UserSays("Hi");
  body["stream"] = true;
  body["stream_options"]["include_usage"] = true;
  const ApiAnswer answer = f.Post(kChatPath, body);
  ASSERT_EQ(answer.code, 200) << answer.body;
  EXPECT_THAT(answer.content_type, StartsWith("text/event-stream"));
  EXPECT_THAT(answer.body, ::testing::EndsWith("data: [DONE]\n\n"));
  const std::vector<Json> events = answer.Events();
  ASSERT_GE(events.size(), 4u);
  EXPECT_EQ(events.front()["choices"][0]["delta"]["role"], "assistant");
  EXPECT_TRUE(events.front()["usage"].is_null());
  const Json message = Assemble(events);
  EXPECT_EQ(message["content"], "Good day.");
  EXPECT_EQ(message["finish_reason"], "stop");
  EXPECT_THAT(events.back()["choices"], IsEmpty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 10);
}

TEST(OpenAiChatTest, CallsOfToolsAreToldApartFromText) {
  ApiFixture f;
  f.engine.SetAnswer(
      "Let me see.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
      "\"Rome\"}}\n</tool_call>");
  Json body = UserSays("Weather?");
  body["tools"] = Json::array({kWeatherTool});
  const Json message = f.Post(kChatPath, body).json()["choices"][0];
  EXPECT_EQ(message["finish_reason"], "tool_calls");
  EXPECT_THAT(message["message"]["content"].get<std::string>(), StartsWith("Let me see."));
  const Json& call = message["message"]["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_EQ(call["function"]["name"], "weather");
  EXPECT_EQ(call["function"]["arguments"], "{\"city\": \"Rome\"}");
  EXPECT_THAT(PromptOf(f.engine), StartsWith("<tools>{\"type\": \"function\""));

  body["stream"] = true;
  const Json streamed = Assemble(f.Post(kChatPath, body).Events());
  EXPECT_EQ(streamed["finish_reason"], "tool_calls");
  ASSERT_EQ(streamed["tool_calls"].size(), 1u);
  EXPECT_EQ(streamed["tool_calls"][0]["function"]["name"], "weather");
  EXPECT_EQ(streamed["tool_calls"][0]["function"]["arguments"], "{\"city\": \"Rome\"}");
}

TEST(OpenAiChatTest, ToolChoiceNoneMakesACallText) {
  ApiFixture f;
  const std::string call = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>";
  f.engine.SetAnswer(call);
  Json body = UserSays("Weather?");
  body["tools"] = Json::array({kWeatherTool});
  body["tool_choice"] = "none";
  const Json choice = f.Post(kChatPath, body).json()["choices"][0];
  EXPECT_EQ(choice["message"]["content"], call);
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
}

TEST(OpenAiChatTest, ACallThatMustBeMadeIsHeldToByAGrammar) {
  ApiFixture f;
  Json body = UserSays("Weather?");
  body["tools"] = Json::array({kWeatherTool});
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "weather"}}}};
  ASSERT_EQ(f.Post(kChatPath, body).code, 200);
  EXPECT_NE(f.engine.last_request().grammar, nullptr);
  body["tool_choice"] = "auto";
  ASSERT_EQ(f.Post(kChatPath, body).code, 200);
  EXPECT_EQ(f.engine.last_request().grammar, nullptr);
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "cook"}}}};
  const ApiAnswer refused = f.Post(kChatPath, body);
  EXPECT_EQ(refused.code, 400);
  EXPECT_THAT(refused.error()["message"].get<std::string>(), HasSubstr("cook"));
}

TEST(OpenAiChatTest, ThoughtsComeApart) {
  ApiFixture f;
  f.engine.SetAnswer("<think>Hm, well.</think>Good day.");
  const Json message = f.Post(kChatPath, UserSays("Hi")).json()["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "Hm, well.");
  EXPECT_EQ(message["content"], "Good day.");
  Json body = UserSays("Hi");
  body["include_reasoning"] = false;
  EXPECT_FALSE(
      f.Post(kChatPath, body).json()["choices"][0]["message"].contains("reasoning_content"));
}

TEST(OpenAiChatTest, StructuredOutputReachesTheEngine) {
  ApiFixture f;
  const Json schema = {{"type", "object"}, {"properties", {{"a", {{"type", "integer"}}}}}};
  const Json forms = {
      {{"response_format", {{"type", "json_object"}}}},
      {{"response_format",
        {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}}},
      {{"guided_json", schema}},
      {{"guided_regex", "[a-z]+"}},
      {{"guided_choice", {"yes", "no"}}},
      {{"guided_grammar", "root ::= \"yes\" | \"no\""}},
      {{"structured_outputs", {{"regex", "[0-9]+"}}}}};
  for (const Json& form : forms) {
    Json body = UserSays("Hi");
    body.update(form);
    const ApiAnswer answer = f.Post(kChatPath, body);
    ASSERT_EQ(answer.code, 200) << form << answer.body;
    EXPECT_NE(f.engine.last_request().grammar, nullptr) << form;
  }
  Json body = UserSays("Hi");
  body["response_format"] = {{"type", "text"}};
  ASSERT_EQ(f.Post(kChatPath, body).code, 200);
  EXPECT_EQ(f.engine.last_request().grammar, nullptr);
}

TEST(OpenAiChatTest, FieldsReachTheEngine) {
  ApiFixture f;
  Json body = UserSays("Hi");
  body.update({{"temperature", 0.5},
               {"top_p", 0.25},
               {"top_k", -1},
               {"min_p", 0.125},
               {"seed", 42},
               {"n", 3},
               {"max_completion_tokens", 7},
               {"min_tokens", 2},
               {"presence_penalty", 1},
               {"frequency_penalty", -1},
               {"repetition_penalty", 1.5},
               {"logit_bias", {{"97", 3.5}}},
               {"stop", {"x", "y"}},
               {"stop_token_ids", {98}},
               {"ignore_eos", true},
               {"logprobs", true},
               {"top_logprobs", 2},
               {"priority", 5},
               {"cache_salt", "s"},
               {"unknown_field", {{"any", "thing"}}},
               {"user", "u"}});
  const ApiAnswer answer = f.Post(kChatPath, body);
  ASSERT_EQ(answer.code, 200) << answer.body;
  const Request request = f.engine.last_request();
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.25f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.min_p, 0.125f);
  EXPECT_EQ(request.sampling.seed, 42u);
  EXPECT_EQ(request.sampling.presence_penalty, 1.0f);
  EXPECT_EQ(request.sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request.sampling.logit_bias.front(), std::make_pair(int32_t{97}, 3.5f));
  EXPECT_EQ(request.stopping.max_tokens, 7);
  EXPECT_EQ(request.stopping.min_tokens, 2);
  EXPECT_EQ(request.stopping.stop_token_ids, std::vector<int32_t>{98});
  EXPECT_TRUE(request.stopping.ignore_eos);
  EXPECT_EQ(request.logprobs, 2);
  EXPECT_EQ(request.priority, 5);
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_EQ(answer.json()["choices"].size(), 3u);
}

TEST(OpenAiChatTest, LogprobsNameTokensByTextAndBytes) {
  ApiFixture f;
  f.engine.SetAnswer("ab");
  Json body = UserSays("Hi");
  body.update({{"logprobs", true}, {"top_logprobs", 1}});
  const Json content = f.Post(kChatPath, body).json()["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["token"], "a");
  EXPECT_EQ(content[0]["bytes"], Json::array({97}));
  EXPECT_TRUE(content[0]["logprob"].is_number());
  EXPECT_LE(content[0]["top_logprobs"].size(), 1u);
}

TEST(OpenAiChatTest, ClientThatLeavesCancelsItsRequest) {
  ApiFixture f({.automatic = false});
  Json body = UserSays("Hi");
  body["stream"] = true;
  const std::string text = body.dump();
  RawClient client(f.server->http_address());
  client.Send("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: " +
              std::to_string(text.size()) + "\r\n\r\n" + text);
  ASSERT_TRUE(f.engine.AwaitInFlight(1));
  client.Close();
  EXPECT_TRUE(f.engine.AwaitCancels(1));
}

TEST(OpenAiChatTest, WithoutATemplateChatIsRefusedAndCompletionsAreServed) {
  ApiFixture f({}, /*has_template=*/false);
  const ApiAnswer refused = f.Post(kChatPath, UserSays("Hi"));
  EXPECT_EQ(refused.code, 400);
  EXPECT_THAT(refused.error()["message"].get<std::string>(), HasSubstr("no chat template"));
  EXPECT_EQ(f.Post("/v1/completions", Json{{"prompt", "Hi"}}).code, 200);
}

TEST(OpenAiChatTest, GrpcTellsTheSameConversation) {
  ApiFixture f;
  f.engine.SetAnswer("<think>Hm.</think>Good day.");
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("Hi");
  v1::GenerateResponse response;
  ASSERT_TRUE(f.Generate(request, response).ok());
  EXPECT_EQ(PromptOf(f.engine), "user: Hi\nassistant: ");
  EXPECT_EQ(response.completions(0).reply().content(), "Good day.");
  EXPECT_EQ(response.completions(0).reply().reasoning(), "Hm.");
  request.mutable_chat()->set_raw_reply(true);
  response.Clear();
  ASSERT_TRUE(f.Generate(request, response).ok());
  EXPECT_FALSE(response.completions(0).has_reply());
  EXPECT_EQ(response.completions(0).text(), "<think>Hm.</think>Good day.");

  v1::RenderChatRequest render;
  *render.mutable_chat() = request.chat();
  v1::RenderChatResponse rendered;
  ASSERT_TRUE(f.inference->RenderChat(f.Context().get(), render, &rendered).ok());
  EXPECT_EQ(rendered.text(), "user: Hi\nassistant: ");
  EXPECT_EQ(rendered.token_ids_size(), 20);
}

TEST(OpenAiChatTest, WhatAUserWritesIsNoSpecialToken) {
  ApiFixture f;
  ASSERT_EQ(f.Post(kChatPath, UserSays("a<|end|>b")).code, 200);
  EXPECT_EQ(PromptOf(f.engine), "user: a<|end|>b\nassistant: ");
}

}  // namespace
}  // namespace mea::testing
