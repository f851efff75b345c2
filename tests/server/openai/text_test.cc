// The paths of the HTTP API that generate nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/openai/api_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

TEST(OpenAiTextTest, TokenizeAndDetokenizeAreEachOthersInverse) {
  ApiFixture f;
  const Json tokens =
      f.Post("/tokenize", Json{{"prompt", "ab"}, {"return_token_strs", true}}).json();
  EXPECT_EQ(tokens["tokens"], Json::array({97, 98}));
  EXPECT_EQ(tokens["token_strs"], Json::array({"a", "b"}));
  EXPECT_EQ(tokens["count"], 2);
  EXPECT_EQ(f.Post("/detokenize", Json{{"tokens", tokens["tokens"]}}).json()["prompt"], "ab");
}

TEST(OpenAiTextTest, TokenizeReadsSpecialTokensUnlessTheyAreNotToBe) {
  ApiFixture f;
  EXPECT_EQ(f.Post("/tokenize", Json{{"prompt", "a<|end|>"}}).json()["count"], 2);
  EXPECT_EQ(
      f.Post("/tokenize", Json{{"prompt", "a<|end|>"}, {"parse_special", false}}).json()["count"],
      8);
}

TEST(OpenAiTextTest, TokenizeRendersMessages) {
  ApiFixture f;
  EXPECT_EQ(f.Post("/tokenize", UserSays("Hi")).json()["count"], 20);
}

TEST(OpenAiTextTest, ProbesAndDescriptionsAnswer) {
  ApiFixture f;
  EXPECT_EQ(f.Get("/health").code, 200);
  EXPECT_EQ(f.Get("/ping").code, 200);
  EXPECT_TRUE(f.Get("/version").json().contains("version"));
  EXPECT_THAT(f.Get("/metrics").body, HasSubstr("mea_kv_cache_bytes"));
  EXPECT_EQ(f.Get("/tokenizer_info").json()["tool_format"], "hermes");
  const Json models = f.Get("/v1/models").json();
  EXPECT_EQ(models["data"][0]["id"], "fake");
}

TEST(OpenAiTextTest, OpenApiNamesEveryPath) {
  ApiFixture f;
  const Json description = f.Get("/openapi.json").json();
  for (const auto& [path, methods] : description["paths"].items()) {
    if (path.find('{') != path.npos) continue;
    for (const auto& [method, operation] : methods.items()) {
      const ApiAnswer answer = method == "get" ? f.Get(path) : f.Post(path, Json::object());
      EXPECT_NE(answer.code, 404) << method << " " << path;
      EXPECT_TRUE(operation["responses"].contains(std::to_string(answer.code)))
          << method << " " << path << " answers " << answer.code;
    }
  }
}

TEST(OpenAiTextTest, UnknownPathsAndMethodsAreRefusedAsOpenAiDoes) {
  ApiFixture f;
  EXPECT_EQ(f.Get("/v1/nothing").code, 404);
  EXPECT_EQ(f.Get("/v1/nothing").error()["type"], "invalid_request_error");
  EXPECT_EQ(f.Get("/v1/chat/completions").code, 405);
}

}  // namespace
}  // namespace mea::testing
