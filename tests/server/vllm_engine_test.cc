// The engine that routers see: vllm.grpc.engine.VllmEngine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/server_fixture.h"
#include "vllm/grpc/engine/vllm_engine.grpc.pb.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace engine = ::vllm::grpc::engine;

struct EngineReplies {
  grpc::Status status;
  std::vector<engine::GenerateStreamChunk> chunks;
  std::vector<engine::GenerateComplete> completes;  // by index

  std::vector<uint32_t> token_ids(uint32_t index) const {
    std::vector<uint32_t> ids;
    for (const auto& chunk : chunks) {
      if (chunk.index() != index) continue;
      ids.insert(ids.end(), chunk.token_ids().begin(), chunk.token_ids().end());
    }
    return ids;
  }
};

struct EngineWorld : ServerFixture {
  using ServerFixture::ServerFixture;

  EngineReplies Ask(const engine::GenerateRequest& request) const {
    const auto context = Context();
    EngineReplies replies;
    const auto reader = stub->Generate(context.get(), request);
    for (engine::GenerateResponse response; reader->Read(&response);) {
      if (response.has_chunk()) replies.chunks.push_back(response.chunk());
      if (response.has_complete()) replies.completes.push_back(response.complete());
    }
    std::sort(replies.completes.begin(), replies.completes.end(),
              [](const auto& a, const auto& b) { return a.index() < b.index(); });
    replies.status = reader->Finish();
    return replies;
  }

  const std::unique_ptr<engine::VllmEngine::Stub> stub = engine::VllmEngine::NewStub(channel);
};

engine::GenerateRequest TokenRequest(const std::string& prompt, bool stream = true) {
  engine::GenerateRequest request;
  for (const char c : prompt) {
    request.mutable_tokenized()->add_input_ids(static_cast<unsigned char>(c));
  }
  request.mutable_sampling_params()->set_max_tokens(100);
  request.set_stream(stream);
  return request;
}

std::vector<uint32_t> TokensThenEnd(const std::string& text) {
  std::vector<uint32_t> ids(text.begin(), text.end());
  ids.push_back(kEos);
  return ids;
}

TEST(VllmEngineTest, StreamsTokensAndThenTheEnd) {
  EngineWorld w;
  w.engine.SetAnswer("a b c");
  const EngineReplies replies = w.Ask(TokenRequest("hey"));
  ASSERT_TRUE(replies.status.ok()) << replies.status.error_message();
  EXPECT_EQ(replies.token_ids(0), TokensThenEnd("a b c"));
  EXPECT_EQ(replies.chunks.back().completion_tokens(), 6);
  EXPECT_EQ(replies.chunks.back().prompt_tokens(), 3);
  ASSERT_EQ(replies.completes.size(), 1);
  const engine::GenerateComplete& complete = replies.completes[0];
  EXPECT_EQ(complete.finish_reason(), "stop");
  EXPECT_EQ(complete.matched_stop_case(), engine::GenerateComplete::MATCHED_STOP_NOT_SET);
  EXPECT_EQ(complete.output_ids_size(), 0);  // the chunks brought them
  EXPECT_EQ(complete.prompt_tokens(), 3);
  EXPECT_EQ(complete.completion_tokens(), 6);
}

TEST(VllmEngineTest, AWholeAnswerIsTheStreamPutTogether) {
  EngineWorld w;
  w.engine.SetAnswer("hello");
  engine::GenerateRequest request = TokenRequest("hey");
  request.mutable_sampling_params()->set_n(2);
  request.mutable_sampling_params()->set_logprobs(1);
  request.mutable_sampling_params()->set_prompt_logprobs(2);
  const EngineReplies stream = w.Ask(request);
  request.set_stream(false);
  const EngineReplies whole = w.Ask(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_TRUE(whole.chunks.empty());
  ASSERT_EQ(whole.completes.size(), 2);
  for (uint32_t i = 0; i < 2; ++i) {
    const engine::GenerateComplete& complete = whole.completes[i];
    EXPECT_EQ(complete.index(), i);
    EXPECT_EQ((std::vector<uint32_t>(complete.output_ids().begin(), complete.output_ids().end())),
              stream.token_ids(i));
    EXPECT_EQ(complete.output_logprobs().token_logprobs_size(), 6);
    EXPECT_EQ(complete.output_logprobs().top_logprobs(0).values_size(), 1);
    EXPECT_FALSE(complete.input_logprobs().token_logprobs(0).has_value());
    EXPECT_FLOAT_EQ(complete.input_logprobs().token_logprobs(1).value(), -0.5f);
    EXPECT_EQ(complete.input_logprobs().top_logprobs(1).values_size(), 2);
    EXPECT_THAT(complete.input_logprobs().token_ids(), ElementsAre('h', 'e', 'y'));
  }
  int with_prompt = 0;
  for (const auto& chunk : stream.chunks) with_prompt += chunk.has_input_logprobs() ? 1 : 0;
  EXPECT_EQ(with_prompt, 2);  // the first of each completion
}

TEST(VllmEngineTest, SaysWhatMatched) {
  EngineWorld w;
  w.engine.SetAnswer("one STOP two");
  engine::GenerateRequest request = TokenRequest("hey");
  request.mutable_sampling_params()->add_stop("STOP");
  EngineReplies replies = w.Ask(request);
  ASSERT_EQ(replies.completes.size(), 1);
  EXPECT_EQ(replies.completes[0].matched_stop_str(), "STOP");
  request.mutable_sampling_params()->clear_stop();
  request.mutable_sampling_params()->add_stop_token_ids('e');
  replies = w.Ask(request);
  ASSERT_EQ(replies.completes.size(), 1);
  EXPECT_EQ(replies.completes[0].matched_token_id(), 'e');
  EXPECT_THAT(replies.token_ids(0), ElementsAre('o', 'n', 'e'));
  request.mutable_sampling_params()->set_max_tokens(2);
  EXPECT_EQ(w.Ask(request).completes.at(0).finish_reason(), "length");
}

TEST(VllmEngineTest, ScalarsMeanWhatTheySayAndNotTheModelsDefaults) {
  FakeEngineOptions options;
  options.defaults.temperature = 0.25f;
  options.defaults.top_k = 7;
  options.defaults.top_p = 0.5f;
  options.defaults.repetition_penalty = 1.5f;
  EngineWorld w(options);
  ASSERT_TRUE(w.Ask(TokenRequest("hey")).status.ok());
  SamplingParams sampling = w.engine.last_request().sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 1);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_FLOAT_EQ(sampling.top_p, 1);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty, 1);
  engine::GenerateRequest request = TokenRequest("hey");
  request.mutable_sampling_params()->set_temperature(0);
  request.mutable_sampling_params()->set_seed(-1);
  ASSERT_TRUE(w.Ask(request).status.ok());
  sampling = w.engine.last_request().sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0);
  EXPECT_EQ(sampling.seed, ~uint64_t{0});

  engine::GetModelInfoResponse info;
  ASSERT_TRUE(w.stub->GetModelInfo(w.Context().get(), {}, &info).ok());
  const auto defaults = nlohmann::json::parse(info.default_sampling_params_json());
  EXPECT_EQ(defaults["temperature"], 0.25);
  EXPECT_EQ(defaults["top_k"], 7);
}

TEST(VllmEngineTest, ARefusalNamesTheFieldAsTheInterfaceDoes) {
  using R = engine::GenerateRequest;
  struct Case {
    std::string field;
    std::string message;
    std::function<void(R&)> spoil;
  };
  const std::vector<Case> cases = {
      {"input", "is not set", [](R& r) { r.clear_input(); }},
      {"input", "has 64 tokens", [](R& r) { r.set_text(std::string(64, 'x')); }},
      {"tokenized.input_ids", "[0] 4711 is outside",
       [](R& r) { r.mutable_tokenized()->set_input_ids(0, 4711); }},
      {"sampling_params.temperature", "9 is outside",
       [](R& r) { r.mutable_sampling_params()->set_temperature(9); }},
      {"sampling_params.max_tokens", "1000 is outside",
       [](R& r) { r.mutable_sampling_params()->set_max_tokens(1000); }},
      {"sampling_params.logprobs", "-1 is outside",
       [](R& r) { r.mutable_sampling_params()->set_logprobs(-1); }},
      {"sampling_params.max_tokens", "4294967295 exceeds",
       [](R& r) { r.mutable_sampling_params()->set_max_tokens(~uint32_t{0}); }},
      {"tokenized.input_ids", "4294967295 exceeds",
       [](R& r) { r.mutable_tokenized()->set_input_ids(0, ~uint32_t{0}); }},
      {"data_parallel_rank", "3 is not 0", [](R& r) { r.set_data_parallel_rank(3); }},
  };
  EngineWorld w({.max_context = 64});
  for (const Case& c : cases) {
    R request = TokenRequest("hey");
    request.mutable_sampling_params()->set_max_tokens(8);
    c.spoil(request);
    const grpc::Status status = w.Ask(request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << c.field;
    EXPECT_THAT(status.error_message(), ::testing::StartsWith(c.field));
    EXPECT_THAT(status.error_message(), HasSubstr(c.message));
    google::rpc::Status details;
    details.ParseFromString(status.error_details());
    bool named = false;
    for (const auto& detail : details.details()) {
      google::rpc::BadRequest bad;
      named |= detail.UnpackTo(&bad) && bad.field_violations(0).field().starts_with(c.field);
    }
    EXPECT_TRUE(named) << c.field;
  }
}

TEST(VllmEngineTest, WhatIsNotServedIsRefusedByName) {
  EngineWorld w;
  using R = engine::GenerateRequest;
  const std::vector<std::pair<std::string, std::function<void(R&)>>> cases = {
      {"kv_transfer_params is", [](R& r) { r.mutable_kv_transfer_params(); }},
      {"kv_transfer_params_json", [](R& r) { r.set_kv_transfer_params_json("{}"); }},
      {"mm_inputs", [](R& r) { r.mutable_mm_inputs(); }},
      {"extra_mm_inputs", [](R& r) { r.add_extra_mm_inputs(); }},
      {"media_refs", [](R& r) { r.mutable_media_refs(); }},
      {"sampling_params.truncate_prompt_tokens",
       [](R& r) { r.mutable_sampling_params()->set_truncate_prompt_tokens(5); }}};
  for (const auto& [name, spoil] : cases) {
    R request = TokenRequest("hey");
    spoil(request);
    const grpc::Status status = w.Ask(request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << name;
    EXPECT_THAT(status.error_message(), HasSubstr(name));
  }
  engine::EmbedResponse response;
  const grpc::Status status = w.stub->Embed(w.Context().get(), {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(), "Embed is not served");
}

TEST(VllmEngineTest, CancelAndAbortEndTheRequest) {
  for (const bool abort : {false, true}) {
    EngineWorld w({.automatic = false});
    w.engine.SetAnswer("a long answer");
    engine::GenerateRequest request = TokenRequest("hey");
    request.set_request_id("mine");
    const auto context = w.Context();
    const auto reader = w.stub->Generate(context.get(), request);
    ASSERT_TRUE(w.engine.AwaitSubmitted(1));
    if (abort) {
      engine::AbortRequest wanted;
      wanted.add_request_ids("not there");
      wanted.add_request_ids("mine");
      engine::AbortResponse response;
      EXPECT_TRUE(w.stub->Abort(w.Context().get(), wanted, &response).ok());
    } else {
      context->TryCancel();
    }
    ASSERT_TRUE(w.engine.AwaitCancels(1));
    w.engine.Step();
    engine::GenerateResponse response;
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_EQ(w.engine.stats().kv.used_pages, 0);
  }
}

TEST(VllmEngineTest, SaysWhatIsServedAndHowBusyItIs) {
  EngineWorld w({.max_context = 160, .max_num_seqs = 1, .automatic = false});
  engine::GetModelInfoResponse model;
  ASSERT_TRUE(w.stub->GetModelInfo(w.Context().get(), {}, &model).ok());
  EXPECT_EQ(model.served_model_name(), "fake");
  EXPECT_EQ(model.max_context_length(), 160);
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(kEos));
  const auto context = w.Context();
  const auto reader = w.stub->Generate(context.get(), TokenRequest("hey"));
  ASSERT_TRUE(w.engine.AwaitSubmitted(1));
  engine::GetServerInfoResponse info;
  ASSERT_TRUE(w.stub->GetServerInfo(w.Context().get(), {}, &info).ok());
  EXPECT_EQ(info.active_requests(), 1);
  EXPECT_EQ(info.block_size(), 16);
  EXPECT_FALSE(info.is_paused());
  engine::GetLoadsResponse loads;
  ASSERT_TRUE(w.stub->GetLoads(w.Context().get(), {}, &loads).ok());
  ASSERT_EQ(loads.loads_size(), 1);
  EXPECT_EQ(loads.loads(0).num_total_reqs(), 1);
  EXPECT_EQ(loads.loads(0).max_total_num_tokens(), 1600);
  EXPECT_EQ(loads.loads(0).num_used_tokens(), 16);
  engine::HealthCheckResponse health;
  ASSERT_TRUE(w.stub->HealthCheck(w.Context().get(), {}, &health).ok());
  EXPECT_TRUE(health.healthy());
  context->TryCancel();
  EXPECT_EQ(w.Health("vllm.grpc.engine.VllmEngine"),
            grpc::health::v1::HealthCheckResponse::SERVING);
}

}  // namespace
}  // namespace mea::testing
