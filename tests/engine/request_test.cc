#include "engine/request.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace mea {
namespace {

constexpr RequestLimits kLimits{.vocab_size = 100, .max_context = 64};

Request ValidRequest() { return {.id = "a", .prompt = {1, 2, 3}}; }

TEST(ValidateRequestTest, DefaultsAreValid) {
  EXPECT_TRUE(ValidateRequest(ValidRequest(), kLimits).ok());
}

struct Case {
  std::function<void(Request&)> spoil;
  std::string message;
};

TEST(ValidateRequestTest, EveryBadFieldIsNamedWithItsValueAndBound) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Case> cases = {
      {[](Request& r) { r.id = ""; }, "request_id is empty"},
      {[](Request& r) { r.prompt = {}; }, "prompt is empty"},
      {[](Request& r) { r.prompt.assign(64, 1); },
       "prompt of 64 tokens leaves no room in the context of 64 tokens"},
      {[](Request& r) { r.prompt[1] = 100; }, "prompt token 100 is outside the vocabulary 0..99"},
      {[](Request& r) { r.prompt[1] = -1; }, "prompt token -1 is outside the vocabulary 0..99"},
      {[](Request& r) { r.sampling.temperature = 2.5f; }, "temperature 2.5 is outside 0..2"},
      {[](Request& r) { r.sampling.temperature = -0.5f; }, "temperature -0.5 is outside 0..2"},
      {[=](Request& r) { r.sampling.temperature = nan; }, "temperature nan is outside 0..2"},
      {[](Request& r) { r.sampling.top_k = -1; }, "top_k -1 is outside 0..100"},
      {[](Request& r) { r.sampling.top_k = 101; }, "top_k 101 is outside 0..100"},
      {[](Request& r) { r.sampling.top_p = 0; }, "top_p 0 keeps no token; the least is above 0"},
      {[](Request& r) { r.sampling.top_p = 1.5f; }, "top_p 1.5 is outside 0..1"},
      {[](Request& r) { r.sampling.min_p = -1; }, "min_p -1 is outside 0..1"},
      {[](Request& r) { r.sampling.repetition_penalty = 0; },
       "repetition_penalty 0 is outside 0.01..10"},
      {[](Request& r) { r.sampling.presence_penalty = 3; }, "presence_penalty 3 is outside -2..2"},
      {[](Request& r) { r.sampling.frequency_penalty = -3; },
       "frequency_penalty -3 is outside -2..2"},
      {[](Request& r) {
         r.sampling.logit_bias = {{100, 0.0f}};
       },
       "logit_bias token 100 is outside the vocabulary 0..99"},
      {[](Request& r) {
         r.sampling.logit_bias = {{5, 101.0f}};
       },
       "logit_bias 101 is outside -100..100"},
      {[](Request& r) { r.sampling.allowed_token_ids = {-7}; },
       "allowed_token_ids -7 is outside the vocabulary 0..99"},
      {[](Request& r) { r.priority = 1001; }, "priority 1001 is outside -1000..1000"},
      {[](Request& r) { r.stopping.max_tokens = 0; }, "max_tokens 0 is outside 1..64"},
      {[](Request& r) { r.stopping.max_tokens = 9000; }, "max_tokens 9000 is outside 1..64"},
      {[](Request& r) { r.stopping.min_tokens = 17; }, "min_tokens 17 is outside 0..16"},
      {[](Request& r) { r.stopping.stop_token_ids = {100}; },
       "stop_token_ids 100 is outside the vocabulary 0..99"},
      {[](Request& r) { r.logprobs = 21; }, "logprobs 21 is outside 0..20"},
      {[](Request& r) { r.logprobs = -1; }, "logprobs -1 is outside 0..20"},
  };
  for (const Case& c : cases) {
    Request request = ValidRequest();
    c.spoil(request);
    const absl::Status status = ValidateRequest(request, kLimits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), c.message);
  }
}

}  // namespace
}  // namespace mea
