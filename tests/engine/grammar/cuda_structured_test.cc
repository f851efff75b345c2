// Structured output on the CUDA back end, on the emulator.
#include <gtest/gtest.h>

#include "tests/engine/grammar/structured_requests.h"
#include "tests/engine/outcome.h"
#include "tests/kernels/cuda/tested_backend.h"

namespace mea::testing {
namespace {

constexpr HarnessOptions kOptions = {
    .page_size = 64, .num_pages = 64, .max_num_seqs = 16, .kv_dtype = DType::kBf16};

class CudaStructuredTest : public ::testing::Test {
 protected:
  // What the requests were told, run together.
  std::vector<std::shared_ptr<RecordingSink>> Run(const std::vector<Request>& requests,
                                                  HarnessOptions options = kOptions) {
    const std::unique_ptr<Backend> device = MakeCuda(kTestedCuda);
    options.device = device.get();
    options.eos_token_ids = {kStructuredEos};
    RandomModelSpec spec = kStructuredModel;
    spec.dtype = DType::kBf16;
    EngineHarness harness(spec, options);
    auto sinks = harness.Run(requests);
    EXPECT_EQ(harness.kv().stats().used_pages, 0);
    num_launched_ahead_ = harness.num_launched_ahead();
    num_preemptions_ = harness.core().stats().num_preemptions;
    return sinks;
  }

  int num_launched_ahead_ = 0;  // of the last Run
  int64_t num_preemptions_ = 0;
};

TEST_F(CudaStructuredTest, FollowsItsGrammarWhoeverRunsBesideIt) {
  std::vector<Request> requests = StructuredRequests(8);
  requests.push_back(RandomRequest(9, 20, 70, kStructuredModel.vocab_size));  // a free one
  const auto together = Run(requests);
  for (size_t i = 0; i < 8; ++i) {
    const FinishEvent& finish = *together[i]->finish;
    ASSERT_TRUE(finish.status.ok()) << finish.status;
    if (finish.reason == FinishReason::kLength) continue;
    const std::string text = StructuredText(together[i]->token_ids());
    EXPECT_TRUE(IsAsAsked(static_cast<int>(i), text)) << i << ": " << text;
  }
  for (const size_t i : {size_t{0}, size_t{3}, size_t{8}}) {
    EXPECT_EQ(OutcomeOf(*Run({requests[i]})[0]), OutcomeOf(*together[i])) << i;
  }

  HarnessOptions ahead = kOptions;
  ahead.launches_ahead = true;
  const auto launched = Run(requests, ahead);
  EXPECT_GT(num_launched_ahead_, 0);  // once the free request is alone
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(OutcomeOf(*launched[i]), OutcomeOf(*together[i])) << i;
  }
}

TEST_F(CudaStructuredTest, IsTheSamePreemptedAndInSmallGroups) {
  std::vector<Request> requests = StructuredRequests(6);
  for (Request& request : requests) {
    request.prompt = RandomRequest(11, 60, 1, kStructuredModel.vocab_size).prompt;
    request.stopping.min_tokens = 20;
  }
  const auto whole = Run(requests);
  HarnessOptions tight = kOptions;
  tight.num_pages = 7;
  tight.max_logit_rows = 2;
  const auto preempted = Run(requests, tight);
  EXPECT_GT(num_preemptions_, 0);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(OutcomeOf(*preempted[i]), OutcomeOf(*whole[i])) << i;
  }
}

TEST_F(CudaStructuredTest, PromptLogprobsCarryTheMostLikelyTokens) {
  Request request = RandomRequest(3, 12, 1, kStructuredModel.vocab_size);
  request.prompt_logprobs = true;
  request.logprobs = 4;
  HarnessOptions small = kOptions;
  small.max_logit_rows = 5;
  const auto sink = Run({request}, small)[0];
  ASSERT_EQ(sink->prompt_tops.size(), 11u);
  for (size_t p = 0; p < 11; ++p) {
    const std::vector<TokenLogprob>& tops = sink->prompt_tops[p];
    ASSERT_EQ(tops.size(), 4u);
    for (int i = 1; i < 4; ++i) EXPECT_GE(tops[i - 1].logprob, tops[i].logprob);
    EXPECT_GE(tops[0].logprob, sink->prompt_logprobs[p]);
    for (const TokenLogprob& top : tops) {
      if (top.token_id != request.prompt[p + 1]) continue;
      EXPECT_NEAR(top.logprob, sink->prompt_logprobs[p], 1e-5);
    }
  }
}

}  // namespace
}  // namespace mea::testing
