// Completions that follow a grammar, through the whole engine on random weights: what they were
// asked for comes out, and nothing but the request decides what it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/engine/grammar/structured_requests.h"
#include "tests/engine/outcome.h"

namespace mea::testing {
namespace {

std::vector<Outcome> RunTogether(const HarnessOptions& options,
                                 const std::vector<Request>& requests) {
  EngineHarness harness(kStructuredModel, options);
  std::vector<Outcome> outcomes;
  for (const auto& sink : harness.Run(requests)) {
    outcomes.push_back(OutcomeOf(*sink));
    EXPECT_TRUE(sink->finish->status.ok()) << sink->finish->status;
  }
  EXPECT_EQ(harness.kv().stats().used_pages, 0);
  return outcomes;
}

class StructuredOutputTest : public ::testing::TestWithParam<std::string> {
 protected:
  HarnessOptions Options() const {
    HarnessOptions options{.backend = GetParam(), .eos_token_ids = {kStructuredEos}};
    if (options.backend == "reference") options.kv_dtype = DType::kF64;
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, StructuredOutputTest, ::testing::Values("cpu", "reference"));

TEST_P(StructuredOutputTest, IsTheSameAloneAndTogether) {
  const std::vector<Request> requests = StructuredRequests(12);
  const std::vector<Outcome> together = RunTogether(Options(), requests);
  for (size_t i = 0; i < requests.size(); i += 3) {
    EXPECT_EQ(RunTogether(Options(), {requests[i]})[0], together[i]) << i;
  }
}

TEST_P(StructuredOutputTest, IsTheSamePreemptedChunkedAndInSmallGroups) {
  const std::vector<Request> requests = StructuredRequests(10);
  const std::vector<Outcome> whole = RunTogether(Options(), requests);

  HarnessOptions tight = Options();
  tight.num_pages = 9;
  tight.max_batch_tokens = 16;
  tight.max_num_seqs = 16;
  tight.max_logit_rows = 3;
  EngineHarness harness(kStructuredModel, tight);
  const auto sinks = harness.Run(requests);
  EXPECT_GT(harness.core().stats().num_preemptions, 0);
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), whole[i]) << i;
}

TEST_P(StructuredOutputTest, IsTheSameAfterAHitOfThePrefixCache) {
  HarnessOptions options = Options();
  options.prefix_cache = true;
  EngineHarness harness(kStructuredModel, options);
  Request request = StructuredRequests(4)[3];
  request.prompt = RandomRequest(7, 50, 1, kStructuredModel.vocab_size).prompt;
  const Outcome first = OutcomeOf(*harness.Run({request})[0]);
  const auto again = harness.Run({request})[0];
  EXPECT_GT(again->finish->usage.cached_tokens, 0);
  EXPECT_EQ(OutcomeOf(*again), first);
}

TEST_P(StructuredOutputTest, EachOfManyCompletionsFollowsTheGrammarByItself) {
  Request request = StructuredRequests(2)[1];
  request.sampling.temperature = 1;
  const std::vector<Outcome> separate = RunTogether(Options(), SeparateRequests(request, 4));
  EngineHarness harness(kStructuredModel, Options());
  const auto sinks = harness.AddAll(request, 4);
  harness.RunUntilIdle();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), separate[i]) << i;
}

TEST_P(StructuredOutputTest, DocumentsAreComplete) {
  const int count = GetParam() == "reference" ? 10 : 60;
  std::vector<Request> requests = StructuredRequests(count);
  for (Request& request : requests) request.stopping.max_tokens = 120;
  EngineHarness harness(kStructuredModel, Options());
  const auto sinks = harness.Run(requests);
  int num_complete = 0;
  for (int i = 0; i < count; ++i) {
    const FinishEvent& finish = *sinks[i]->finish;
    ASSERT_TRUE(finish.status.ok()) << finish.status;
    if (finish.reason == FinishReason::kLength) continue;
    ++num_complete;
    EXPECT_EQ(finish.stop_token_id, kStructuredEos);
    const std::string text = StructuredText(sinks[i]->token_ids());
    EXPECT_TRUE(IsAsAsked(i, text)) << i << ": " << text;
  }
  EXPECT_GT(num_complete, count / 3);
}

TEST_P(StructuredOutputTest, LogprobsAreThoseOfTheModel) {
  // The first token of a constrained and of a free completion come from the same logits.
  Request free = StructuredRequests(1)[0];
  free.grammar = nullptr;
  free.logprobs = 20;
  free.stopping.max_tokens = 1;
  Request held = free;
  held.id = "held";
  held.grammar = CompileStructured({.kind = GrammarSpec::Kind::kChoice, .choices = {"{"}});
  EngineHarness harness(kStructuredModel, Options());
  const auto sinks = harness.Run({free, held});
  const TokenEvent& a = sinks[0]->tokens[0];
  const TokenEvent& b = sinks[1]->tokens[0];
  EXPECT_EQ(StructuredText({b.token_id}), "{");
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(a.top_logprobs[i].token_id, b.top_logprobs[i].token_id);
    EXPECT_EQ(a.top_logprobs[i].logprob, b.top_logprobs[i].logprob);
    if (a.top_logprobs[i].token_id == b.token_id) {
      EXPECT_EQ(a.top_logprobs[i].logprob, *b.logprob);
    }
  }
}

Request ChoiceRequest(std::vector<std::string> choices) {
  Request request = StructuredRequests(1)[0];
  request.grammar =
      CompileStructured({.kind = GrammarSpec::Kind::kChoice, .choices = std::move(choices)});
  request.stopping.max_tokens = 30;
  return request;
}

TEST_P(StructuredOutputTest, MinTokensYieldWhereNothingElseCanFollow) {
  Request request = ChoiceRequest({"abc"});
  request.stopping.min_tokens = 20;
  EngineHarness harness(kStructuredModel, Options());
  const auto sink = harness.Run({request})[0];
  EXPECT_EQ(StructuredText(sink->token_ids()), "abc");
  EXPECT_EQ(sink->finish->stop_token_id, kStructuredEos);
}

TEST_P(StructuredOutputTest, MinTokensHoldWhereMoreCanFollow) {
  Request request = ChoiceRequest({"x"});
  request.grammar = CompileStructured({.kind = GrammarSpec::Kind::kRegex, .text = "[a-d]+"});
  request.stopping.min_tokens = 12;
  EngineHarness harness(kStructuredModel, Options());
  EXPECT_GE(harness.Run({request})[0]->tokens.size(), 12u);
}

TEST_P(StructuredOutputTest, WithoutStopTokensItEndsWithItsGrammar) {
  Request request = ChoiceRequest({"abc"});
  request.stopping.ignore_eos = true;
  EngineHarness harness(kStructuredModel, Options());
  const auto sink = harness.Run({request})[0];
  EXPECT_EQ(StructuredText(sink->token_ids()), "abc");
  EXPECT_EQ(sink->finish->reason, FinishReason::kStop);
  EXPECT_EQ(sink->finish->stop_token_id, std::nullopt);
  EXPECT_FALSE(sink->tokens.back().is_stop);
}

// Allows token 1 so many times, and then nothing, or fails.
class BrokenGrammar : public Grammar {
 public:
  BrokenGrammar(int num_tokens, absl::Status status) : num_tokens_(num_tokens), status_(status) {}

  std::unique_ptr<GrammarMatcher> NewMatcher(std::span<const int32_t>) const override {
    class Matcher : public GrammarMatcher {
     public:
      Matcher(int left, absl::Status status) : left_(left), status_(std::move(status)) {}
      absl::Status FillMask(std::span<uint32_t> mask) override {
        std::fill(mask.begin(), mask.end(), 0);
        mask[0] = left_ > 0 ? 2 : 0;
        return left_ > 0 ? absl::OkStatus() : status_;
      }
      bool Accept(int32_t) override { return left_-- > 0; }
      bool is_finished() override { return false; }

     private:
      int left_;
      const absl::Status status_;
    };
    return std::make_unique<Matcher>(num_tokens_, status_);
  }
  int64_t memory_bytes() const override { return 0; }

 private:
  const int num_tokens_;
  const absl::Status status_;
};

TEST_P(StructuredOutputTest, WhereNothingCanBeDrawnThatRequestEndsAloneAndClearly) {
  const std::vector<Request> others = StructuredRequests(6);
  const std::vector<Outcome> whole = RunTogether(Options(), others);
  for (const absl::Status& status : {absl::OkStatus(), absl::ResourceExhaustedError("slow")}) {
    for (const int num_tokens : {0, 1, 3}) {
      std::vector<Request> requests = others;
      requests.push_back(others[0]);
      requests.back().id = "broken";
      requests.back().grammar = std::make_shared<BrokenGrammar>(num_tokens, status);
      EngineHarness harness(kStructuredModel, Options());
      const auto sinks = harness.Run(requests);
      EXPECT_EQ(sinks.back()->finish->status.code(), status.ok()
                                                         ? absl::StatusCode::kFailedPrecondition
                                                         : absl::StatusCode::kResourceExhausted);
      EXPECT_EQ(sinks.back()->tokens.size(), static_cast<size_t>(num_tokens));
      for (size_t i = 0; i < others.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), whole[i]) << i;
      EXPECT_EQ(harness.kv().stats().used_pages, 0);
    }
  }
}

TEST_P(StructuredOutputTest, PromptLogprobsCarryTheMostLikelyTokens) {
  Request request = RandomRequest(3, 30, 1, kStructuredModel.vocab_size);
  request.prompt_logprobs = true;
  request.logprobs = 4;
  HarnessOptions small = Options();
  small.max_batch_tokens = 16;
  small.max_num_seqs = 8;
  small.max_logit_rows = 5;
  EngineHarness harness(kStructuredModel, small);
  const auto sink = harness.Run({request})[0];
  ASSERT_EQ(sink->prompt_tops.size(), 29u);
  for (size_t p = 0; p < 29; ++p) {
    // As the draw after a prompt that ends there reports them.
    Request shorter = request;
    shorter.id = "shorter";
    shorter.prompt.resize(p + 1);
    shorter.prompt_logprobs = false;
    const auto draw = EngineHarness(kStructuredModel, Options()).Run({shorter})[0];
    const std::vector<TokenLogprob>& expected = draw->tokens[0].top_logprobs;
    const std::vector<TokenLogprob>& actual = sink->prompt_tops[p];
    ASSERT_EQ(actual.size(), 4u);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(actual[i].token_id, expected[i].token_id);
      EXPECT_EQ(actual[i].logprob, expected[i].logprob);
      if (actual[i].token_id == request.prompt[p + 1]) {
        EXPECT_NEAR(actual[i].logprob, sink->prompt_logprobs[p], 1e-5);
      }
    }
  }
  request.logprobs = 0;
  EXPECT_TRUE(EngineHarness(kStructuredModel, Options()).Run({request})[0]->prompt_tops[0].empty());
}

TEST(StructuredRequestTest, GrammarsAndAllowedTokensExcludeEachOther) {
  Request request = StructuredRequests(1)[0];
  const RequestLimits limits{.vocab_size = kStructuredModel.vocab_size, .max_context = 200};
  EXPECT_TRUE(ValidateRequest(request, limits).ok());
  request.sampling.allowed_token_ids = {3};
  EXPECT_EQ(ValidateRequest(request, limits).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mea::testing
