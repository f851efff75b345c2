// What the HTTP API refuses: status, error object, and that nothing else notices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "engine/refusal.h"
#include "server/limits.h"
#include "tests/server/openai/api_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kChat[] = "/v1/chat/completions";

struct BadField {
  std::string path;
  Json fields;  // in place of those of a good request; null removes one
  std::string param;
  std::string message;  // a part of it
};

std::vector<BadField> BadFields() {
  const std::string text = "/v1/completions";
  return {
      {kChat, {{"temperature", "hot"}}, "temperature", "\"hot\"; a number is expected"},
      {kChat, {{"temperature", 3}}, "temperature", "temperature 3 is outside 0..2"},
      {kChat, {{"top_p", 0}}, "top_p", "top_p 0 is outside 0..1"},
      {kChat, {{"top_k", 1.5}}, "top_k", "whole number"},
      {kChat, {{"n", 0}}, "n", "n 0 is outside 1..4"},
      {kChat, {{"n", 1 << 30}}, "n", "outside 1..4"},
      {kChat, {{"max_tokens", 0}}, "max_tokens", "max_tokens 0 is outside 1.."},
      {kChat, {{"max_completion_tokens", -1}}, "max_completion_tokens", "outside 1.."},
      {kChat, {{"stop", 5}}, "stop", "a string or a list of strings is expected"},
      {kChat, {{"stop", {"a", 1}}}, "stop[1]", "a string is expected"},
      {kChat, {{"stop", {""}}}, "stop[0]", "is empty"},
      {kChat, {{"seed", "x"}}, "seed", "whole number"},
      {kChat, {{"stream", "yes"}}, "stream", "true or false"},
      {kChat, {{"stream_options", {{"include_usage", true}}}}, "stream_options", "stream"},
      {kChat, {{"logit_bias", {{"x", 1}}}}, "logit_bias", "the key \"x\", which is no token id"},
      {kChat, {{"logit_bias", {{"7", "x"}}}}, "logit_bias[\"7\"]", "a number is expected"},
      {kChat, {{"logit_bias", {{"9999", 1}}}}, "logit_bias", "vocabulary"},
      {kChat, {{"top_logprobs", 3}}, "top_logprobs", "logprobs"},
      {kChat, {{"logprobs", true}, {"top_logprobs", 21}}, "top_logprobs", "outside 0..20"},
      {kChat, {{"messages", nullptr}}, "messages", "is not set"},
      {kChat, {{"messages", Json::array()}}, "messages", "is empty"},
      {kChat, {{"messages", "Hi"}}, "messages", "a list is expected"},
      {kChat, {{"messages", {1}}}, "messages[0]", "an object is expected"},
      {kChat, {{"messages", {{{"content", "x"}}}}}, "messages[0].role", "is not set"},
      {kChat, {{"tools", {{{"type", "x"}}}}}, "tools[0].type", "one of function"},
      {kChat, {{"tools", {{{"type", "function"}}}}}, "tools[0].function", "is not set"},
      {kChat, {{"tool_choice", "required"}}, "tool_choice", "there are no tools"},
      {kChat, {{"tool_choice", "maybe"}}, "tool_choice", "one of none, auto, required"},
      {kChat, {{"functions", {{{"name", "f"}}}}}, "functions", "send tools"},
      {kChat, {{"response_format", {{"type", "xml"}}}}, "response_format.type", "json_schema"},
      {kChat,
       {{"response_format", {{"type", "json_schema"}}}},
       "response_format.json_schema",
       "a JSON Schema is expected"},
      {kChat, {{"guided_json", {{"type", "nonsense"}}}}, "guided_json", "type is not one"},
      {kChat, {{"guided_regex", "("}}, "guided_regex", ""},
      {kChat, {{"guided_regex", "a"}, {"guided_choice", {"b"}}}, "guided_choice", "second"},
      {kChat, {{"chat_template_kwargs", 1}}, "chat_template_kwargs", "an object"},
      {kChat, {{"timeout", -1}}, "timeout", "seconds"},
      {text, {{"prompt", nullptr}}, "prompt", "is not set"},
      {text, {{"prompt", ""}}, "prompt", "prompt is empty"},
      {text, {{"prompt", {{"a", 1}}}}, "prompt", ""},
      {text, {{"prompt", {99999}}}, "prompt", "vocabulary"},
      {text, {{"prompt", {-1}}}, "prompt[0]", "a token id"},
      {text, {{"best_of", 3}}, "best_of", "must equal n"},
      {text, {{"suffix", "x"}}, "suffix", "not served"},
      {text, {{"logprobs", 21}}, "logprobs", "outside 0..20"},
      {text, {{"max_tokens", 1 << 21}}, "max_tokens", "outside"},
      {"/v1/responses", {{"input", nullptr}}, "input", "is not set"},
      {"/v1/responses", {{"previous_response_id", "x"}}, "previous_response_id", "keeps no"},
      {"/v1/responses",
       {{"tools", {{{"type", "function"}, {"name", "f"}, {"parameters", 5}}}}},
       "tools[0].parameters",
       "is 5; an object is expected"},
      {"/v1/responses", {{"max_output_tokens", 0}}, "max_output_tokens", "outside"},
      {"/v1/responses",
       {{"input", {{{"type", "item_reference"}}}}},
       "input[0].type",
       "one of message, function_call"},
      {"/tokenize", {{"prompt", 1}}, "prompt", "a string"},
      {"/detokenize", {{"tokens", {-1}}}, "tokens[0]", "vocabulary"},
  };
}

TEST(OpenAiErrorsTest, RefusalNamesTheFieldAsTheClientWroteIt) {
  ApiFixture f;
  for (const BadField& bad : BadFields()) {
    Json body = bad.path == kChat             ? UserSays("Hi")
                : bad.path == "/v1/responses" ? Json{{"input", "Hi"}}
                                              : Json{{"prompt", "Hi"}};
    body.update(bad.fields);
    const ApiAnswer answer = f.Post(bad.path, body);
    SCOPED_TRACE(bad.fields.dump() + " -> " + answer.body);
    EXPECT_EQ(answer.code, 400);
    const Json error = answer.error();
    ASSERT_TRUE(error.is_object());
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["param"], bad.param);
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(bad.message));
    EXPECT_TRUE(error.contains("code"));
  }
  EXPECT_EQ(f.engine.num_submitted(), 0);
  EXPECT_EQ(f.Post(kChat, UserSays("Hi")).code, 200);
}

TEST(OpenAiErrorsTest, BodyMustBeAJsonObject) {
  ApiFixture f;
  const std::string deep(200, '[');
  const std::string good = UserSays("Hi").dump();
  EXPECT_EQ(f.Post(kChat, good + " \r\n\t").code, 200);
  for (const std::string& body : {std::string("{"), std::string("[]"), std::string("null"), deep,
                                  std::string("{\"a\": \"\xff\"}"), std::string(), good + "x",
                                  good + std::string("\0", 1), good + good}) {
    const ApiAnswer answer = f.Post(kChat, body);
    EXPECT_EQ(answer.code, 400) << body;
    EXPECT_EQ(answer.error()["type"], "invalid_request_error") << body;
  }
}

TEST(OpenAiErrorsTest, UnknownModelIsNotFound) {
  ApiFixture f;
  Json body = UserSays("Hi");
  body["model"] = "gpt-9";
  const ApiAnswer answer = f.Post(kChat, body);
  EXPECT_EQ(answer.code, 404);
  EXPECT_EQ(answer.error()["code"], "model_not_found");
  EXPECT_EQ(f.Get("/v1/models/gpt-9").code, 404);
  EXPECT_EQ(f.Get("/v1/models/fake").code, 200);
}

TEST(OpenAiErrorsTest, FullQueueSaysWhenToComeAgain) {
  ApiFixture f;
  f.engine.RefuseNext(ResourceExhausted("the queue is full", "QUEUE_FULL", absl::Seconds(3)));
  const ApiAnswer answer = f.Post(kChat, UserSays("Hi"));
  EXPECT_EQ(answer.code, 429);
  EXPECT_EQ(answer.retry_after, "3");
  EXPECT_EQ(answer.error()["type"], "rate_limit_error");
  EXPECT_EQ(answer.error()["code"], "queue_full");
}

TEST(OpenAiErrorsTest, DeadlineOfTheClientIs408) {
  ApiFixture f({.automatic = false});
  const ApiAnswer answer =
      f.Post(kChat, UserSays("Hi").dump(), {{"X-Request-Timeout", "0.000001"}});
  EXPECT_EQ(answer.code, 408);
  EXPECT_EQ(answer.error()["code"], "timeout");
  EXPECT_EQ(answer.should_retry, "false");
}

TEST(OpenAiErrorsTest, OnlyJsonIsTakenAndOnlyPlain) {
  ApiFixture f;
  const std::string body = UserSays("Hi").dump();
  for (const char* type : {"application/json", "Application/JSON; charset=utf-8",
                           "application/merge-patch+json", "application/x-www-form-urlencoded"}) {
    EXPECT_EQ(f.Post(kChat, body, {}, type).code, 200) << type;
  }
  for (const char* type : {"text/plain", "multipart/form-data; boundary=x", "application/jsonp"}) {
    const ApiAnswer answer = f.Post(kChat, body, {}, type);
    EXPECT_EQ(answer.code, 415) << type;
    EXPECT_THAT(answer.error().value("message", ""), HasSubstr("send JSON as application/json"));
  }
  for (const char* path : {kChat, "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"}) {
    const ApiAnswer answer = f.Post(path, body, {{"Content-Encoding", "gzip"}});
    EXPECT_EQ(answer.code, 415) << path;
    EXPECT_EQ(answer.error().value("message", ""),
              "Content-Encoding 'gzip' is not served; send the body as it is");
  }
  EXPECT_EQ(f.Post(kChat, body, {{"Content-Encoding", "identity"}}).code, 200);
}

TEST(OpenAiErrorsTest, FailureOfARunningStreamIsItsLastEvent) {
  ApiFixture f({.automatic = false});
  Json body = UserSays("Hi");
  body["stream"] = true;
  ApiAnswer answer;
  std::thread client([&] { answer = f.Post(kChat, body); });
  ASSERT_TRUE(f.engine.AwaitInFlight(1));
  f.engine.Step(2);
  absl::SleepFor(absl::Milliseconds(50));  // the first events leave
  f.engine.FailAll(absl::UnavailableError("draining"));
  f.engine.Step(1);
  client.join();
  EXPECT_EQ(answer.code, 200);
  ASSERT_FALSE(answer.Events().empty());
  EXPECT_EQ(answer.Events().back()["error"]["type"], "server_error") << answer.body;
}

TEST(OpenAiErrorsTest, TooLargeABodyIs413) {
  ApiFixture f;
  const ApiAnswer answer = f.Post(kChat, std::string(kMaxRequestBytes + 1, ' '));
  EXPECT_EQ(answer.code, 413);
  EXPECT_EQ(answer.error()["type"], "invalid_request_error");
}

TEST(OpenAiErrorsTest, LabelOfTheClientComesBack) {
  ApiFixture f;
  EXPECT_EQ(f.Post(kChat, UserSays("Hi").dump(), {{"X-Request-Id", "trace 7"}}).request_id,
            "trace 7");
  // A label need not be unique.
  EXPECT_EQ(f.Post(kChat, UserSays("Hi").dump(), {{"X-Request-Id", "trace 7"}}).code, 200);
}

}  // namespace
}  // namespace mea::testing
