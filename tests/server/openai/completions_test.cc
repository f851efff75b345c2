// POST /v1/completions in front of a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/openai/api_fixture.h"

namespace mea::testing {
namespace {

using ::testing::StartsWith;

constexpr char kCompletionsPath[] = "/v1/completions";

TEST(OpenAiCompletionsTest, PromptsOfEveryFormAreCompletedInTheirOrder) {
  ApiFixture f;
  f.engine.SetScript([](const Request& request) { return request.prompt; });
  const std::pair<Json, std::vector<std::string>> cases[] = {
      {"ab", {"ab"}},
      {Json::array({97, 98}), {"ab"}},
      {Json::array({"ab", "cd", "ef"}), {"ab", "cd", "ef"}},
      {Json::array({Json::array({97}), Json::array({98, 99})}), {"a", "bc"}}};
  for (const auto& [prompt, texts] : cases) {
    const ApiAnswer answer = f.Post(kCompletionsPath, Json{{"prompt", prompt}});
    ASSERT_EQ(answer.code, 200) << answer.body;
    const Json choices = answer.json()["choices"];
    ASSERT_EQ(choices.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(choices[i]["index"], i);
      EXPECT_EQ(choices[i]["text"], texts[i]);
    }
  }
}

TEST(OpenAiCompletionsTest, ChoicesOfSeveralPromptsAreNumberedThrough) {
  ApiFixture f;
  f.engine.SetScript([](const Request& request) { return request.prompt; });
  const Json body = {{"prompt", {"ab", "cd"}}, {"n", 2}};
  const Json json = f.Post(kCompletionsPath, body).json();
  ASSERT_EQ(json["choices"].size(), 4u);
  EXPECT_EQ(json["choices"][1]["text"], "ab");
  EXPECT_EQ(json["choices"][2]["text"], "cd");
  EXPECT_EQ(json["choices"][3]["index"], 3);
  EXPECT_EQ(json["usage"]["prompt_tokens"], 4);
}

TEST(OpenAiCompletionsTest, StreamOfSeveralPromptsHasAllTheirText) {
  ApiFixture f;
  f.engine.SetScript([](const Request& request) { return request.prompt; });
  const Json body = {{"prompt", {"abc", "def"}}, {"stream", true}};
  std::vector<std::string> texts(2);
  int ends = 0;
  for (const Json& event : f.Post(kCompletionsPath, body).Events()) {
    for (const Json& choice : event["choices"]) {
      texts[choice["index"].get<int>()] += choice["text"].get<std::string>();
      ends += !choice["finish_reason"].is_null();
    }
  }
  EXPECT_EQ(texts[0], "abc");
  EXPECT_EQ(texts[1], "def");
  EXPECT_EQ(ends, 2);
}

TEST(OpenAiCompletionsTest, EchoWithLogprobsShowsThePrompt) {
  ApiFixture f;
  f.engine.SetAnswer("yz");
  const Json body = {{"prompt", "abc"}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 1}};
  const Json choice = f.Post(kCompletionsPath, body).json()["choices"][0];
  EXPECT_EQ(choice["text"], "abcy");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::array({"a", "b", "c", "y"}));
  EXPECT_EQ(logprobs["text_offset"], Json::array({0, 1, 2, 3}));
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["token_logprobs"][1].is_number());
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["top_logprobs"][1].contains("b"));
}

TEST(OpenAiCompletionsTest, TextOffsetIsWhereATokenBeginsInTheText) {
  ApiFixture f;
  f.engine.SetAnswer("\xc3\xbcz");  // a code point of two tokens
  Json body = {{"prompt", {'a', kEos, 0xc3, 0xbc, 'b'}}, {"logprobs", 0}, {"max_tokens", 8}};
  const auto offsets = [&] {
    return f.Post(kCompletionsPath, body).json()["choices"][0]["logprobs"]["text_offset"];
  };
  EXPECT_EQ(offsets(), Json::array({0, 0, 1, 2}));  // the last is the end of the sequence
  body["echo"] = true;
  EXPECT_EQ(offsets(), Json::array({0, 1, 1, 1, 2, 3, 3, 4, 5}));
  body["stop"] = "zz";  // may begin, and is held back
  EXPECT_EQ(offsets(), Json::array({0, 1, 1, 1, 2, 3, 3, 4}));
}

TEST(OpenAiCompletionsTest, NoTokensWithEchoIsThePromptAlone) {
  ApiFixture f;
  f.engine.SetAnswer("yz");
  const Json body = {{"prompt", "abc"}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}};
  const Json json = f.Post(kCompletionsPath, body).json();
  EXPECT_EQ(json["choices"][0]["text"], "abc");
  EXPECT_EQ(json["choices"][0]["logprobs"]["tokens"].size(), 3u);
  EXPECT_EQ(json["usage"]["completion_tokens"], 0);
}

TEST(OpenAiCompletionsTest, SixteenTokensUnlessAsked) {
  ApiFixture f;
  ASSERT_EQ(f.Post(kCompletionsPath, Json{{"prompt", "a"}}).code, 200);
  EXPECT_EQ(f.engine.last_request().stopping.max_tokens, 16);
}

TEST(OpenAiCompletionsTest, SpecialTokensOfATextAreReadUnlessTheyAreNotToBe) {
  ApiFixture f;
  const auto prompt_size = [&](Json body) {
    EXPECT_EQ(f.Post(kCompletionsPath, body).code, 200);
    return f.engine.last_request().prompt.size();
  };
  EXPECT_EQ(prompt_size({{"prompt", "a<|end|>"}}), 2u);
  EXPECT_EQ(prompt_size({{"prompt", "a<|end|>"}, {"parse_special", true}}), 2u);
  EXPECT_EQ(prompt_size({{"prompt", "a<|end|>"}, {"parse_special", false}}), 8u);
  // Both are for texts.
  EXPECT_EQ(
      prompt_size({{"prompt", {97, 98}}, {"parse_special", false}, {"add_special_tokens", false}}),
      2u);
}

TEST(OpenAiCompletionsTest, OneBadPromptRefusesAll) {
  ApiFixture f;
  const ApiAnswer answer = f.Post(kCompletionsPath, Json{{"prompt", {"ab", ""}}});
  EXPECT_EQ(answer.code, 400);
  EXPECT_EQ(answer.error()["param"], "prompt");
  EXPECT_EQ(f.engine.num_submitted(), 0);
}

TEST(OpenAiCompletionsTest, StopStringIsNamed) {
  ApiFixture f;
  f.engine.SetAnswer("one two");
  const Json choice =
      f.Post(kCompletionsPath, Json{{"prompt", "a"}, {"stop", " "}}).json()["choices"][0];
  EXPECT_EQ(choice["text"], "one");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], " ");
}

}  // namespace
}  // namespace mea::testing
