// Completions that begin with their prompt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/limits.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::MatchesRegex;

v1::GenerateRequest EchoText(const std::string& text) {
  v1::GenerateRequest request = TextRequest(text);
  request.mutable_response()->set_echo(true);
  return request;
}

v1::GenerateRequest EchoTokens(const std::vector<int32_t>& ids) {
  v1::GenerateRequest request = EchoText("");
  request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  return request;
}

TEST(EchoTest, CompletionBeginsWithTheTextAndTokensOfThePrompt) {
  ServerFixture f;
  f.engine.SetAnswer("you");
  for (const v1::GenerateRequest& request : {EchoText("hey "), EchoTokens({'h', 'e', 'y', ' '})}) {
    const StreamResult stream = f.Stream(request);
    ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
    EXPECT_THAT(stream.events, MatchesRegex("pd+f"));
    EXPECT_EQ(stream.text, "hey you");
    EXPECT_THAT(stream.token_ids, ElementsAre('h', 'e', 'y', ' ', 'y', 'o', 'u'));
    EXPECT_EQ(stream.prompt.prompt_tokens(), 4);
    EXPECT_EQ(stream.finish.usage().prompt_tokens(), 4);
    EXPECT_EQ(stream.finish.usage().completion_tokens(), 4);  // the end of sequence included

    v1::GenerateResponse unary;
    ASSERT_TRUE(f.Generate(request, unary).ok());
    EXPECT_EQ(unary.completions(0).text(), stream.text);
    EXPECT_EQ(unary.completions(0).token_ids_size(), 7);
  }
}

TEST(EchoTest, PromptComesBeforeTheFirstTokenIsDrawn) {
  ServerFixture f({.automatic = false});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), EchoText("hey"));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_prompt());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.delta().text(), "hey");
  f.engine.Step(6);
  EXPECT_EQ(ReadAll(*reader).text, "hello");
}

TEST(EchoTest, TextIsTheOneThatWasSentAndThatOfTokensHasNoSpecialOnes) {
  ServerFixture f;
  f.engine.SetAnswer("!");
  EXPECT_EQ(f.Stream(EchoText("a<|end|>b")).text, "a<|end|>b!");
  const StreamResult tokens = f.Stream(EchoTokens({'a', kEos, 'b'}));
  EXPECT_EQ(tokens.text, "ab!");
  EXPECT_THAT(tokens.token_ids, ElementsAre('a', kEos, 'b', '!'));
}

TEST(EchoTest, CodePointThatThePromptCutsIsWhole) {
  ServerFixture f;
  f.engine.SetAnswer("\xac.");
  EXPECT_EQ(f.Stream(EchoTokens({'a', 0xe2, 0x82})).text, "a\xe2\x82\xac.");
}

TEST(EchoTest, StopStringsAndMaxTokensConcernWhatFollows) {
  ServerFixture f;
  f.engine.SetAnswer("one stop two");
  v1::GenerateRequest request = EchoText("stop ");
  request.mutable_stopping()->add_stop("stop");
  EXPECT_EQ(f.Stream(request).text, "stop one ");
  request = EchoText("hey ");
  request.mutable_stopping()->set_max_tokens(3);
  EXPECT_EQ(f.Stream(request).text, "hey one");
}

TEST(EchoTest, LogprobsOfThePromptComeWithItsTokens) {
  ServerFixture f;
  f.engine.SetAnswer("ab");
  v1::GenerateRequest request = EchoText("hey");
  request.mutable_response()->set_logprobs(1);
  for (const bool prompt_logprobs : {false, true}) {
    request.mutable_response()->set_prompt_logprobs(prompt_logprobs);
    const StreamResult result = f.Stream(request);
    ASSERT_EQ(result.logprobs.size(), 5u);  // one for each token
    EXPECT_EQ(result.logprobs[2].token_id(), 'y');
    EXPECT_FALSE(result.logprobs[0].has_logprob());
    EXPECT_EQ(result.logprobs[2].has_logprob(), prompt_logprobs);
    if (prompt_logprobs) {
      EXPECT_FLOAT_EQ(result.logprobs[2].logprob(), -0.5f);
    }
    EXPECT_FLOAT_EQ(result.logprobs[3].logprob(), -0.25f);
    EXPECT_EQ(result.prompt.logprobs_size(), prompt_logprobs ? 3 : 0);
  }
}

TEST(EchoTest, PromptLogprobsAloneStayWithThePrompt) {
  ServerFixture f;
  v1::GenerateRequest request = EchoText("hey");
  request.mutable_response()->set_prompt_logprobs(true);
  const StreamResult result = f.Stream(request);
  EXPECT_EQ(result.prompt.logprobs_size(), 3);
  EXPECT_TRUE(result.logprobs.empty());
  EXPECT_EQ(result.text, "heyhello");
}

TEST(EchoTest, PromptThatIsTooLongToRepeatIsRefused) {
  ServerFixture f;
  const int64_t tokens = kMaxEchoBytes / 6;  // a byte of text and an id each
  EXPECT_TRUE(f.Try(EchoText(std::string(tokens, 'a'))).ok());
  const grpc::Status status = f.Try(EchoText(std::string(tokens + 1, 'a')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "response.echo repeats a prompt of 524292 bytes, the most is 524288");
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(f.control->GetModelInfo(f.Context().get(), {}, &info).ok());
  EXPECT_EQ(info.limits().max_echo_bytes(), kMaxEchoBytes);
}

}  // namespace
}  // namespace mea::testing
