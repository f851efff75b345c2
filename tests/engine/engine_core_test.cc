#include "engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/outcome.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

TEST(EngineCoreTest, SaltsAndBypassKeepPrefixesApart) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {.prefix_cache = true});
  const auto cached = [&](std::string salt, bool bypass) {
    Request request = RandomRequest(3, 50, 2, spec.vocab_size);
    request.cache_salt = std::move(salt);
    request.bypass_prefix_cache = bypass;
    return harness.Run({request})[0]->finish->usage.cached_tokens;
  };
  EXPECT_EQ(cached("a", true), 0);
  EXPECT_EQ(cached("a", false), 0);  // the first left nothing
  EXPECT_EQ(cached("a", false), 48);
  EXPECT_EQ(cached("a", true), 0);
  EXPECT_EQ(cached("b", false), 0);
  EXPECT_EQ(cached("", false), 0);
  EXPECT_EQ(cached("b", false), 48);
}

TEST(EngineCoreTest, CompletionsShareTheFullPagesOfTheirPrompt) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {});
  const auto sinks = harness.AddAll(RandomRequest(1, 40, 5, spec.vocab_size), 4);
  harness.Step();
  EXPECT_TRUE(sinks[0]->scheduled);
  EXPECT_FALSE(sinks[1]->scheduled);
  harness.Step();
  EXPECT_TRUE(sinks[3]->scheduled);
  EXPECT_EQ(sinks[3]->tokens.size(), 1u);
  EXPECT_EQ(harness.kv().stats().used_pages, 2 + 4) << "two are full, the third is each one's own";
  harness.RunUntilIdle();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->finish->usage.prompt_tokens, 40);
    EXPECT_EQ(sink->finish->usage.completion_tokens, 5);
  }
}

TEST(EngineCoreTest, CancellingCompletionsAtEveryStepLeaksNoPageAndSparesTheOthers) {
  const RandomModelSpec spec;
  Request request = RandomRequest(1, 40, 6, spec.vocab_size);
  request.sampling = {.temperature = 1.0f, .seed = 3};
  std::vector<Outcome> whole;
  for (const auto& sink : EngineHarness(spec, {}).Run(SeparateRequests(request, 3))) {
    whole.push_back(OutcomeOf(*sink));
  }
  EngineHarness harness(spec, {.max_batch_tokens = 16, .max_num_seqs = 8});
  for (const int cancelled : {0, 1, 2, -1}) {
    for (int step = 0; step < 12; ++step) {
      const auto sinks = harness.AddAll(request, 3);
      for (int i = 0; i < step; ++i) harness.Step();
      const auto which = cancelled < 0 ? std::nullopt : std::optional(cancelled);
      harness.core().Finish(request.id, absl::CancelledError("stop"), which);
      harness.RunUntilIdle();
      harness.core().Deliver();
      for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(sinks[i]->finish.has_value());
        if (cancelled < 0 || cancelled == i) continue;
        EXPECT_EQ(OutcomeOf(*sinks[i]), whole[i]) << cancelled << " at step " << step;
      }
      EXPECT_EQ(harness.kv().stats().used_pages, 0);
    }
  }
}

TEST(EngineCoreTest, CancellingAtEveryStepLeaksNoPage) {
  const RandomModelSpec spec{.head_norm = true};
  EngineHarness harness(spec, {.max_batch_tokens = 16, .max_num_seqs = 8});
  const std::vector<Request> requests = MixedRequests(4, spec.vocab_size);
  for (int cancel_at = 0;; ++cancel_at) {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const Request& request : requests) sinks.push_back(harness.Add(request));
    for (int step = 0; step < cancel_at && harness.core().has_work(); ++step) harness.Step();
    const bool was_done = !harness.core().has_work();
    harness.core().Finish(requests[cancel_at % 4].id, absl::CancelledError("stop"));
    harness.RunUntilIdle();
    harness.core().Deliver();
    for (const auto& sink : sinks) EXPECT_TRUE(sink->finish.has_value());
    EXPECT_EQ(harness.kv().stats().used_pages, 0) << "cancelled at step " << cancel_at;
    if (was_done) break;
    ASSERT_LT(cancel_at, 1000);
  }
}

TEST(EngineCoreTest, CancelEndsWithItsStatusAndOthersDoNotNotice) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {});
  const Request kept = RandomRequest(1, 10, 20, spec.vocab_size);
  const Request cut = RandomRequest(2, 10, 20, spec.vocab_size);
  const auto kept_sink = harness.Add(kept);
  const auto cut_sink = harness.Add(cut);
  for (int i = 0; i < 5; ++i) harness.Step();
  EXPECT_TRUE(harness.core().Finish(cut.id, absl::CancelledError("the request was cancelled")));
  EXPECT_FALSE(harness.core().Finish(cut.id, absl::CancelledError("twice")));
  harness.RunUntilIdle();
  EXPECT_EQ(cut_sink->finish->status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(cut_sink->finish->reason, FinishReason::kCancelled);
  EXPECT_EQ(cut_sink->tokens.size(), 5u);
  EngineHarness alone(spec, {});
  EXPECT_EQ(OutcomeOf(*kept_sink), OutcomeOf(*alone.Run({kept})[0]));
}

TEST(EngineCoreTest, ADeadlineEndsTheRequestWithinOneStepAndFreesItsPages) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {});
  Request request = RandomRequest(1, 10, 50, spec.vocab_size);
  request.deadline = absl::FromUnixSeconds(100);
  const auto sink = harness.Add(request);
  harness.core().RunStep(absl::FromUnixSeconds(99));
  EXPECT_GT(harness.kv().stats().used_pages, 0);
  harness.core().RunStep(absl::FromUnixSeconds(100));
  EXPECT_EQ(harness.kv().stats().used_pages, 0);
  harness.core().Deliver();
  EXPECT_EQ(sink->finish->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(sink->finish->status.message(), "the deadline passed after 1 output tokens");
}

TEST(EngineCoreTest, ADeadlineEndsWhatWaitsAndEveryCompletion) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {.max_num_seqs = 3});
  Request request = RandomRequest(1, 40, 50, spec.vocab_size);
  request.deadline = absl::FromUnixSeconds(100);
  std::vector<std::shared_ptr<RecordingSink>> sinks = harness.AddAll(request, 3);
  request.id = "waits";
  const auto waiting = harness.AddAll(request, 2);
  sinks.insert(sinks.end(), waiting.begin(), waiting.end());
  for (int i = 0; i < 3; ++i) harness.core().RunStep(absl::FromUnixSeconds(99));
  EXPECT_EQ(harness.core().stats().num_running, 3);
  harness.core().RunStep(absl::FromUnixSeconds(100));
  EXPECT_EQ(harness.kv().stats().used_pages, 0);
  EXPECT_FALSE(harness.core().has_work());
  harness.core().Deliver();
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->finish->status.code(), absl::StatusCode::kDeadlineExceeded);
  }
}

TEST(EngineCoreTest, StopTokensAndEosEndTheRequestAndAreMarked) {
  const RandomModelSpec spec;
  const Request request = RandomRequest(1, 10, 30, spec.vocab_size);
  EngineHarness free_running(spec, {});
  const std::vector<int32_t> tokens = free_running.Run({request})[0]->token_ids();
  ASSERT_EQ(tokens.size(), 30u);
  const int32_t stop = tokens[12];
  const size_t first = std::find(tokens.begin(), tokens.end(), stop) - tokens.begin();

  Request with_stop = request;
  with_stop.stopping.stop_token_ids = {stop};
  const auto stopped = EngineHarness(spec, {}).Run({with_stop})[0];
  EXPECT_EQ(stopped->tokens.size(), first + 1);
  EXPECT_TRUE(stopped->tokens.back().is_stop);
  EXPECT_EQ(stopped->finish->reason, FinishReason::kStop);
  EXPECT_EQ(stopped->finish->stop_token_id, stop);

  const auto eos = EngineHarness(spec, {.eos_token_ids = {stop}}).Run({request})[0];
  EXPECT_EQ(eos->token_ids(), stopped->token_ids());

  Request ignoring = request;
  ignoring.stopping.ignore_eos = true;
  const auto ignored = EngineHarness(spec, {.eos_token_ids = {stop}}).Run({ignoring})[0];
  EXPECT_EQ(ignored->token_ids(), tokens);
  EXPECT_EQ(ignored->finish->reason, FinishReason::kLength);

  Request at_least = with_stop;
  at_least.stopping.min_tokens = 20;
  const auto longer = EngineHarness(spec, {}).Run({at_least})[0];
  EXPECT_GE(longer->tokens.size(), 20u);
  for (int i = 0; i < 20 - 1; ++i) EXPECT_NE(longer->tokens[i].token_id, stop);
}

TEST(EngineCoreTest, TheContextEndsARequestWithLength) {
  const RandomModelSpec spec{.max_position = 40};
  const auto sink = EngineHarness(spec, {}).Run({RandomRequest(1, 30, 40, spec.vocab_size)})[0];
  EXPECT_EQ(sink->tokens.size(), 10u);
  EXPECT_EQ(sink->finish->reason, FinishReason::kLength);
  EXPECT_TRUE(sink->finish->status.ok());
}

TEST(EngineCoreTest, UsageCountsTokensAndCacheBytes) {
  const RandomModelSpec spec;  // 2 of 4 heads cached
  const auto sink = EngineHarness(spec, {}).Run({RandomRequest(1, 20, 13, spec.vocab_size)})[0];
  const Usage& usage = sink->finish->usage;
  EXPECT_EQ(usage.prompt_tokens, 20);
  EXPECT_EQ(usage.completion_tokens, 13);
  EXPECT_EQ(usage.cached_tokens, 0);
  // 32 tokens are in the cache (the last one drawn is not): two pages of 16 tokens, two layers.
  EXPECT_EQ(usage.kv_bytes, 2 * 16 * 2 * (2 + 2) * 16 * 4);
  // Twice as many heads of half the bytes: uncompressed is BF16.
  EXPECT_EQ(usage.kv_bytes_uncompressed, 2 * 16 * 2 * (4 + 4) * 16 * 2);
}

TEST(EngineCoreTest, PromptLogprobsAgreeWithTheLogprobsOfDrawnTokens) {
  const RandomModelSpec spec;
  EngineHarness harness(spec, {});
  const Request request = RandomRequest(3, 25, 20, spec.vocab_size);
  const auto first = harness.Run({request})[0];
  Request again = request;
  again.prompt_logprobs = true;
  const std::vector<int32_t> drawn = first->token_ids();
  again.prompt.insert(again.prompt.end(), drawn.begin(), drawn.end());
  const auto second = harness.Run({again})[0];
  ASSERT_EQ(second->prompt_logprobs.size(), again.prompt.size() - 1);
  const std::vector<float> tail(second->prompt_logprobs.end() - 20, second->prompt_logprobs.end());
  EXPECT_EQ(tail, first->logprobs());
}

}  // namespace
}  // namespace mea::testing
