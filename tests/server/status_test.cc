// Every failure and the status it has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "engine/refusal.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/limits.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

struct BadRequest {
  std::string message;
  std::function<void(v1::GenerateRequest&)> spoil;
};

constexpr int kContext = 64;

std::vector<BadRequest> InvalidRequests() {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  using R = v1::GenerateRequest;
  return {
      {"prompt is not set; send text, token_ids or chat", [](R& r) { r.clear_prompt(); }},
      {"text is empty", [](R& r) { r.set_text(""); }},
      {"text has 4194305 bytes, the most is 4194304",
       [](R& r) { r.set_text(std::string(kMaxPromptBytes + 1, 'x')); }},
      {"prompt has 64 tokens; at most 63 fit in the context of 64",
       [](R& r) { r.set_text(std::string(kContext, 'x')); }},
      {"add_special_tokens goes with text alone",
       [](R& r) {
         r.mutable_token_ids()->add_ids(1);
         r.set_add_special_tokens(false);
       }},
      {"parse_special goes with text alone",
       [](R& r) {
         r.mutable_token_ids()->add_ids(1);
         r.set_parse_special(true);
       }},
      {"token_ids.ids is empty", [](R& r) { r.mutable_token_ids(); }},
      {"token_ids.ids[1] 258 is outside the vocabulary 0..257",
       [](R& r) {
         r.mutable_token_ids()->add_ids(1);
         r.mutable_token_ids()->add_ids(kVocabSize);
       }},
      {"token_ids.ids[0] -1 is outside the vocabulary 0..257",
       [](R& r) { r.mutable_token_ids()->add_ids(-1); }},
      {"request_id has 129 bytes, the most is 128",
       [](R& r) { r.set_request_id(std::string(129, 'i')); }},
      {"request_id holds a character that is not printable ASCII",
       [](R& r) { r.set_request_id("a\nb"); }},
      {"sampling.temperature 3.5 is outside 0..2",
       [](R& r) { r.mutable_sampling()->set_temperature(3.5); }},
      {"sampling.temperature nan is outside 0..2",
       [](R& r) { r.mutable_sampling()->set_temperature(kNan); }},
      {"sampling.temperature -0.1 is outside 0..2",
       [](R& r) { r.mutable_sampling()->set_temperature(-0.1f); }},
      {"sampling.top_k -1 is outside 0..258", [](R& r) { r.mutable_sampling()->set_top_k(-1); }},
      {"sampling.top_p 0 is outside 0..1, the least excluded",
       [](R& r) { r.mutable_sampling()->set_top_p(0); }},
      {"sampling.top_p 1.5 is outside 0..1, the least excluded",
       [](R& r) { r.mutable_sampling()->set_top_p(1.5); }},
      {"sampling.min_p 2 is outside 0..1", [](R& r) { r.mutable_sampling()->set_min_p(2); }},
      {"sampling.repetition_penalty 0 is outside 0.01..10",
       [](R& r) { r.mutable_sampling()->set_repetition_penalty(0); }},
      {"sampling.presence_penalty 3 is outside -2..2",
       [](R& r) { r.mutable_sampling()->set_presence_penalty(3); }},
      {"sampling.frequency_penalty -3 is outside -2..2",
       [](R& r) { r.mutable_sampling()->set_frequency_penalty(-3); }},
      {"sampling.n 0 is outside 1..4", [](R& r) { r.mutable_sampling()->set_n(0); }},
      {"sampling.n 5 is outside 1..4", [](R& r) { r.mutable_sampling()->set_n(5); }},
      {"sampling.logit_bias 101 is outside -100..100",
       [](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[3] = 101; }},
      {"sampling.logit_bias key 300 is outside the vocabulary 0..257",
       [](R& r) { (*r.mutable_sampling()->mutable_logit_bias())[300] = 1; }},
      {"sampling.logit_bias has 1025 entries, the most is 1024",
       [](R& r) {
         for (int i = 0; i <= kMaxLogitBias; ++i) {
           (*r.mutable_sampling()->mutable_logit_bias())[i] = 1;
         }
       }},
      {"sampling.allowed_token_ids[0] 258 is outside the vocabulary 0..257",
       [](R& r) { r.mutable_sampling()->add_allowed_token_ids(258); }},
      {"stopping.max_tokens 0 is outside 1..63",
       [](R& r) { r.mutable_stopping()->set_max_tokens(0); }},
      {"stopping.max_tokens 62 exceeds 61, what a prompt of 3 tokens leaves of context 64",
       [](R& r) { r.mutable_stopping()->set_max_tokens(62); }},
      {"stopping.min_tokens 11 exceeds max_tokens 10",
       [](R& r) { r.mutable_stopping()->set_min_tokens(11); }},
      {"stopping.min_tokens -1 is outside 0..63",
       [](R& r) { r.mutable_stopping()->set_min_tokens(-1); }},
      {"stopping.stop[1] is empty",
       [](R& r) {
         r.mutable_stopping()->add_stop("a");
         r.mutable_stopping()->add_stop("");
       }},
      {"stopping.stop[0] has 257 bytes, the most is 256",
       [](R& r) { r.mutable_stopping()->add_stop(std::string(257, 's')); }},
      {"stopping.stop has 17 strings, the most is 16",
       [](R& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop(std::string("s"));
       }},
      {"stopping.stop_token_ids[0] 999 is outside the vocabulary 0..257",
       [](R& r) { r.mutable_stopping()->add_stop_token_ids(999); }},
      {"stopping.stop_token_ids has 65 entries, the most is 64",
       [](R& r) {
         for (int i = 0; i < 65; ++i) r.mutable_stopping()->add_stop_token_ids(1);
       }},
      {"response.logprobs 21 is outside 0..20",
       [](R& r) { r.mutable_response()->set_logprobs(21); }},
      {"cache.cache_salt has 257 bytes, the most is 256",
       [](R& r) { r.mutable_cache()->set_cache_salt(std::string(257, 's')); }},
      {"sampling.allowed_token_ids holds end tokens alone, which stopping.min_tokens 2 forbids",
       [](R& r) {
         for (const int32_t id : {int32_t{kEos}, 65})
           r.mutable_sampling()->add_allowed_token_ids(id);
         r.mutable_stopping()->add_stop_token_ids(65);
         r.mutable_stopping()->set_min_tokens(2);
       }},
      {"priority 1001 is outside -1000..1000", [](R& r) { r.set_priority(1001); }},
  };
}

TEST(StatusTest, InvalidArgumentNamesFieldValueAndBound) {
  ServerFixture f({.max_context = kContext});
  for (const BadRequest& bad : InvalidRequests()) {
    v1::GenerateRequest request = TextRequest("hey", 10);
    bad.spoil(request);
    const grpc::Status unary = f.Try(request);
    EXPECT_EQ(unary.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad.message;
    EXPECT_EQ(unary.error_message(), bad.message);
    const StreamResult stream = f.Stream(request);
    EXPECT_EQ(stream.status.error_message(), bad.message);
    EXPECT_EQ(stream.events, "");
  }
  EXPECT_EQ(f.engine.num_submitted(), 0);
}

TEST(StatusTest, WhatIsNotServedIsUnimplementedAndNamed) {
  ServerFixture f;
  const std::vector<BadRequest> requests = {
      {"the model has no chat template: send a plain prompt (text over gRPC, /v1/completions over "
       "HTTP), or start the server with --chat-template FILE",
       [](v1::GenerateRequest& r) { r.mutable_chat()->add_messages()->set_role("user"); }},
  };
  for (const BadRequest& bad : requests) {
    v1::GenerateRequest request = TextRequest("hey", 10);
    bad.spoil(request);
    const grpc::Status status = f.Try(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
    EXPECT_EQ(status.error_message(), bad.message);
  }
}

TEST(StatusTest, CacheControlsThatChangeNothingAreAccepted) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_cache()->set_bypass_prefix_cache(true);
  request.mutable_cache()->set_cache_salt("mine");
  EXPECT_TRUE(f.Try(request).ok());
}

TEST(StatusTest, TheLeastOfARangeIsInsideItInTheFieldsOwnPrecision) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_sampling()->set_repetition_penalty(0.01f);  // less than 0.01 in double
  EXPECT_TRUE(f.Try(request).ok()) << f.Try(request).error_message();
}

TEST(StatusTest, EndTokensAloneMayBeAllowedWhereTheyMayEnd) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_sampling()->add_allowed_token_ids(kEos);
  EXPECT_TRUE(f.Try(request).ok());
  request.mutable_stopping()->set_min_tokens(2);
  EXPECT_FALSE(f.Try(request).ok());
  request.mutable_stopping()->set_ignore_eos(true);
  EXPECT_TRUE(f.Try(request).ok());
}

TEST(StatusTest, UnknownModelIsNotFound) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.set_model("other");
  EXPECT_EQ(f.Try(request).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(f.Try(request).error_message(), "model 'other' is not served; 'fake' is");
  request.set_model(std::string(300, 'm'));
  EXPECT_EQ(f.Try(request).error_message(),
            "a model with a name of 300 bytes is not served; 'fake' is");
  request.set_model("fake");
  EXPECT_TRUE(f.Try(request).ok());

  v1::TokenizeRequest tokenize;
  tokenize.set_model("other");
  v1::TokenizeResponse tokens;
  EXPECT_EQ(f.inference->Tokenize(f.Context().get(), tokenize, &tokens).error_code(),
            grpc::StatusCode::NOT_FOUND);
  v1::GetModelInfoRequest info;
  info.set_model("other");
  v1::GetModelInfoResponse model;
  EXPECT_EQ(f.control->GetModelInfo(f.Context().get(), info, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(StatusTest, IdInFlightAlreadyExistsAndIsFreeAfterwards) {
  ServerFixture f({.automatic = false});
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("twin");
  const auto context = f.Context();
  const auto first = f.inference->GenerateStream(context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(1));
  const grpc::Status second = f.Try(request);
  EXPECT_EQ(second.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(second.error_message(), "request_id 'twin' is in flight");
  f.engine.Step(6);
  ASSERT_TRUE(ReadAll(*first).status.ok());
  const auto again_context = f.Context();
  const auto again = f.inference->GenerateStream(again_context.get(), request);
  ASSERT_TRUE(f.engine.AwaitSubmitted(2));
  f.engine.Step(6);
  EXPECT_TRUE(ReadAll(*again).status.ok());
}

TEST(StatusTest, FullQueueSaysWhenToComeBack) {
  ServerFixture f;
  f.engine.RefuseNext(
      ResourceExhausted("the queue of 8 requests is full", "QUEUE_FULL", absl::Milliseconds(2500)));
  const grpc::Status status = f.Try(TextRequest("hey"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "the queue of 8 requests is full");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  ASSERT_EQ(details.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "QUEUE_FULL");
  EXPECT_EQ(info.domain(), "mea");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
}

TEST(StatusTest, OversizedMessageIsResourceExhausted) {
  ServerFixture f;
  const grpc::Status status = f.Try(TextRequest(std::string(kMaxRequestBytes + 1, 'x')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("8388608"));
}

TEST(StatusTest, UnaryResponseBeyondWhatClientsTakeIsResourceExhausted) {
  ServerFixture f;
  f.engine.SetScript([](const Request&) { return std::vector<int32_t>(4096, kLongToken); });
  const grpc::Status status = f.Try(TextRequest("hey", 10000));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(),
            "the response exceeds 4194304 bytes; GenerateStream has no such bound");
  EXPECT_TRUE(f.engine.AwaitInFlight(0));
}

TEST(StatusTest, RefusalOfTheEngineIsPassedOn) {
  ServerFixture f;
  f.engine.RefuseNext(absl::InvalidArgumentError("prompt of 9 pages exceeds the cache of 8"));
  const StreamResult result = f.Stream(TextRequest("hey"));
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(result.status.error_message(), "prompt of 9 pages exceeds the cache of 8");
  EXPECT_EQ(result.events, "");
}

TEST(StatusTest, DetokenizeRefusesTokensOutsideTheVocabulary) {
  ServerFixture f;
  v1::DetokenizeRequest request;
  request.add_token_ids(kVocabSize);
  v1::DetokenizeResponse response;
  const grpc::Status status = f.inference->Detokenize(f.Context().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "token_ids[0] 258 is outside the vocabulary 0..257");
}

}  // namespace
}  // namespace mea::testing
