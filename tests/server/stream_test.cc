// What a client reads of a generation that ends well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::MatchesRegex;

std::vector<int32_t> Bytes(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

TEST(StreamTest, BringsThePromptThenDeltasThenOneFinish) {
  ServerFixture f;
  f.engine.SetAnswer("a b c");
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("mine");
  const StreamResult result = f.Stream(request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_THAT(result.events, MatchesRegex("pd+f"));
  EXPECT_EQ(result.prompt.request_id(), "mine");
  EXPECT_EQ(result.prompt.model(), "fake");
  EXPECT_EQ(result.prompt.prompt_tokens(), 3);
  EXPECT_EQ(result.prompt.logprobs_size(), 0);
  EXPECT_EQ(result.text, "a b c");
  EXPECT_EQ(result.token_ids, Bytes("a b c"));
  EXPECT_EQ(result.finish.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.finish.eos_token_id(), kEos);
}

TEST(StreamTest, UsageCountsTokensAndCacheMemoryBesideWhatItWouldBe) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const StreamResult result = f.Stream(TextRequest("hey"));
  const v1::Usage& usage = result.finish.usage();
  EXPECT_EQ(usage.prompt_tokens(), 3);
  EXPECT_EQ(usage.completion_tokens(), 6);  // the end of sequence included
  EXPECT_EQ(usage.cached_tokens(), 0);
  EXPECT_EQ(usage.kv_bytes(), 16 * 64);  // one page
  EXPECT_EQ(usage.kv_bytes_uncompressed(), 16 * 128);
}

TEST(StreamTest, UnaryEqualsTheStreamPutTogether) {
  ServerFixture f;
  f.engine.SetAnswer("gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 STOP rest");
  for (const bool with_stop : {false, true}) {
    v1::GenerateRequest request = TextRequest("hey");
    request.mutable_sampling()->set_seed(7);
    request.mutable_response()->set_logprobs(2);
    if (with_stop) request.mutable_stopping()->add_stop("STOP");
    const StreamResult stream = f.Stream(request);
    v1::GenerateResponse unary;
    ASSERT_TRUE(f.Generate(request, unary).ok());
    ASSERT_EQ(unary.completions_size(), 1);
    const v1::Completion& completion = unary.completions(0);
    EXPECT_EQ(completion.text(), stream.text);
    EXPECT_EQ((std::vector<int32_t>(completion.token_ids().begin(), completion.token_ids().end())),
              stream.token_ids);
    EXPECT_EQ(completion.logprobs_size(), std::ssize(stream.logprobs));
    EXPECT_EQ(completion.finish().stop_string(), stream.finish.stop_string());
    EXPECT_EQ(completion.finish().usage().completion_tokens(),
              stream.finish.usage().completion_tokens());
    EXPECT_EQ(completion.finish().seed(), 7u);
  }
}

TEST(StreamTest, EveryDeltaIsValidUtf8ThoughTokensCutCodePoints) {
  ServerFixture f({.automatic = false});
  const std::string text = "\xe2\x82\xac";  // the euro sign, three tokens
  f.engine.SetAnswer(text);
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), TextRequest("hey"));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));  // the prompt
  for (const char* expected : {"", "", "\xe2\x82\xac"}) {
    f.engine.Step();
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.delta().text(), expected);
    EXPECT_EQ(event.delta().token_ids_size(), 1);  // ids are never held back
  }
  f.engine.Step();
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST(StreamTest, UnfinishedCodePointBecomesAReplacementCharacterAtTheEnd) {
  ServerFixture f;
  f.engine.SetAnswer("ok\xe2\x82");
  EXPECT_EQ(f.Stream(TextRequest("hey")).text, "ok\xef\xbf\xbd");
}

TEST(StreamTest, StopStringEndsTheTextAndTheRequest) {
  ServerFixture f;
  f.engine.SetAnswer("one two three");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_stopping()->add_stop("wo t");
  const StreamResult result = f.Stream(request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.text, "one t");
  EXPECT_EQ(result.finish.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.finish.stop_string(), "wo t");
  EXPECT_EQ(result.token_ids, Bytes("one two t"));  // up to the one that completed it
  EXPECT_EQ(result.finish.usage().completion_tokens(), 9);
  EXPECT_TRUE(f.engine.AwaitInFlight(0));
}

TEST(StreamTest, IncludeStopLeavesTheStopStringInTheText) {
  ServerFixture f;
  f.engine.SetAnswer("one two three");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_stopping()->add_stop("wo t");
  request.mutable_stopping()->set_include_stop(true);
  EXPECT_EQ(f.Stream(request).text, "one two t");
}

TEST(StreamTest, PossibleStopStringIsHeldBackUntilItIsNone) {
  ServerFixture f({.automatic = false});
  f.engine.SetAnswer("aXb");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_stopping()->add_stop("XY");
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), request);
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  for (const char* expected : {"a", "", "Xb"}) {
    f.engine.Step();
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.delta().text(), expected);
  }
  f.engine.Step();
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST(StreamTest, StopTokenIsNamedAndLeftOutUnlessAskedFor) {
  ServerFixture f;
  f.engine.SetAnswer("abcd");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_stopping()->add_stop_token_ids('c');
  const StreamResult without = f.Stream(request);
  EXPECT_EQ(without.text, "ab");
  EXPECT_THAT(without.token_ids, ElementsAre('a', 'b'));
  EXPECT_EQ(without.finish.stop_token_id(), 'c');
  request.mutable_stopping()->set_include_stop(true);
  const StreamResult with = f.Stream(request);
  EXPECT_EQ(with.text, "abc");
  EXPECT_THAT(with.token_ids, ElementsAre('a', 'b', 'c'));
}

TEST(StreamTest, StopStringThatIsCompleteBeforeMinTokensIsNone) {
  ServerFixture f;
  f.engine.SetAnswer("xaxabc");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_stopping()->add_stop("a");
  EXPECT_EQ(f.Stream(request).text, "x");
  request.mutable_stopping()->set_min_tokens(2);
  EXPECT_EQ(f.Stream(request).text, "xax");
  request.mutable_stopping()->set_stop(0, "ax");  // begins before, ends behind
  EXPECT_EQ(f.Stream(request).text, "x");
}

TEST(StreamTest, MaxTokensEndsWithLength) {
  ServerFixture f;
  f.engine.SetAnswer("abcdef");
  const StreamResult result = f.Stream(TextRequest("hey", 3));
  EXPECT_EQ(result.text, "abc");
  EXPECT_EQ(result.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(result.finish.stop_match_case(), v1::Finish::STOP_MATCH_NOT_SET);
}

TEST(StreamTest, LogprobsComeWithTheirTokens) {
  ServerFixture f;
  f.engine.SetAnswer("ab");
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_response()->set_logprobs(2);
  const StreamResult result = f.Stream(request);
  ASSERT_EQ(result.logprobs.size(), 2u);
  EXPECT_EQ(result.logprobs[1].token_id(), 'b');
  EXPECT_FLOAT_EQ(result.logprobs[1].logprob(), -0.25f);
  ASSERT_EQ(result.logprobs[1].top_size(), 2);
  EXPECT_FLOAT_EQ(result.logprobs[1].top(1).logprob(), -2.0f);
}

TEST(StreamTest, PromptLogprobsComeWithThePrompt) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_response()->set_prompt_logprobs(true);
  const StreamResult result = f.Stream(request);
  EXPECT_THAT(result.events, MatchesRegex("pd+f"));
  ASSERT_EQ(result.prompt.logprobs_size(), 3);
  EXPECT_EQ(result.prompt.logprobs(0).token_id(), 'h');
  EXPECT_FALSE(result.prompt.logprobs(0).has_logprob());
  EXPECT_FLOAT_EQ(result.prompt.logprobs(2).logprob(), -0.5f);
}

TEST(StreamTest, UnsetSeedIsDrawnAndReported) {
  ServerFixture f;
  const uint64_t first = f.Stream(TextRequest("hey")).finish.seed();
  EXPECT_EQ(f.engine.last_request().sampling.seed, first);
  EXPECT_NE(f.Stream(TextRequest("hey")).finish.seed(), first);
}

TEST(StreamTest, WhatTheClientCallsARequestIsALabelAndGoesBack) {
  ServerFixture f({.automatic = false});
  const std::string label(1024, 'x');
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> streams;
  for (int i = 0; i < 2; ++i) {  // the second is a client that tries again
    contexts.push_back(f.Context());
    contexts.back()->AddMetadata("x-request-id", label);
    streams.push_back(f.inference->GenerateStream(contexts.back().get(), TextRequest("hey")));
  }
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  f.engine.Step(8);
  for (int i = 0; i < 2; ++i) {
    const StreamResult result = ReadAll(*streams[i]);
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_THAT(result.prompt.request_id(), ::testing::StartsWith("req-"));
    const auto& metadata = contexts[i]->GetServerInitialMetadata();
    const auto it = metadata.find("x-request-id");
    ASSERT_NE(it, metadata.end());
    EXPECT_EQ(std::string(it->second.data(), it->second.size()), label);
  }
  EXPECT_THAT(f.StopAndReadLog(),
              ::testing::Contains(::testing::HasSubstr(" label=\"" + label.substr(0, 256) + "\"")));
}

TEST(StreamTest, IdOfTheMessageGoesBackWithoutALabel) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("mine");
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), request);
  EXPECT_EQ(ReadAll(*reader).prompt.request_id(), "mine");
  const auto& metadata = context->GetServerInitialMetadata();
  const auto it = metadata.find("x-request-id");
  ASSERT_NE(it, metadata.end());
  EXPECT_EQ(std::string(it->second.data(), it->second.size()), "mine");
}

TEST(StreamTest, TokenIdsAreTakenAsTheyAre) {
  ServerFixture f;
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(5);
  request.mutable_token_ids()->add_ids(kEos);
  ASSERT_TRUE(f.Stream(request).status.ok());
  EXPECT_THAT(f.engine.last_request().prompt, ElementsAre(5, kEos));
}

TEST(StreamTest, UnsetFieldsTakeTheModelsDefaultsThenTheBuiltInOnes) {
  FakeEngineOptions options{.max_context = 50};
  options.defaults.temperature = 0.7f;
  options.defaults.top_k = 20;
  ServerFixture f(options);
  v1::GenerateRequest request;
  request.set_text("hey");
  request.mutable_sampling()->set_top_k(0);  // set to nothing is not unset
  ASSERT_TRUE(f.Stream(request).status.ok());
  const Request seen = f.engine.last_request();
  EXPECT_FLOAT_EQ(seen.sampling.temperature, 0.7f);
  EXPECT_EQ(seen.sampling.top_k, 0);
  EXPECT_FLOAT_EQ(seen.sampling.top_p, 1.0f);
  EXPECT_EQ(seen.stopping.max_tokens, 47);  // all that is left
}

TEST(StreamTest, SpecialTokensOfATextAreReadUnlessTheyAreNotToBe) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("a<|end|>");
  const auto prompt_size = [&] {
    EXPECT_TRUE(f.Stream(request).status.ok());
    return f.engine.last_request().prompt.size();
  };
  v1::TokenizeRequest tokenize;
  tokenize.set_text(request.text());
  const auto num_tokens = [&] {
    v1::TokenizeResponse tokens;
    EXPECT_TRUE(f.inference->Tokenize(f.Context().get(), tokenize, &tokens).ok());
    return tokens.token_ids_size();
  };
  EXPECT_EQ(prompt_size(), 2u);
  EXPECT_EQ(num_tokens(), 2);
  request.set_parse_special(false);
  tokenize.set_parse_special(false);
  EXPECT_EQ(prompt_size(), 8u);
  EXPECT_EQ(num_tokens(), 8);
}

TEST(StreamTest, TokenizeAndDetokenizeAreInverse) {
  ServerFixture f;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("gr\xc3\xbc\xc3\x9f");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(f.inference->Tokenize(f.Context().get(), tokenize, &tokens).ok());
  EXPECT_EQ(tokens.token_ids_size(), 6);
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_token_ids() = tokens.token_ids();
  detokenize.add_token_ids(kEos);
  v1::DetokenizeResponse text;
  ASSERT_TRUE(f.inference->Detokenize(f.Context().get(), detokenize, &text).ok());
  EXPECT_EQ(text.text(), "gr\xc3\xbc\xc3\x9f");
  detokenize.set_skip_special_tokens(false);
  ASSERT_TRUE(f.inference->Detokenize(f.Context().get(), detokenize, &text).ok());
  EXPECT_EQ(text.text(), "gr\xc3\xbc\xc3\x9f<|end|>");
}

}  // namespace
}  // namespace mea::testing
