#include "engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

struct Variant {
  std::string name;
  RandomModelSpec spec;
  DType kv_dtype = DType::kF32;
};

std::vector<Variant> Variants() {
  return {
      {"Mha", {.plain = true}},
      {"Gqa", {.q_heads = 8, .kv_heads = 2, .plain = true, .qk_norm = true, .biases = true}},
      {"Mea", {.head_norm = true}},
      {"MeaUnequalBudgets", {.q_heads = 8, .key_heads = 3, .value_heads = 1, .head_norm = true}},
      {"MeaQkNorm", {.q_heads = 8, .qk_norm = true}},
      {"MeaMixedLayers", {.num_layers = 3, .plain_last_layer = true, .qk_norm = true}},
      {"MeaWindow", {.window = 24, .head_norm = true}},
      {"MeaMoe", {.qk_norm = true, .num_experts = 6, .dense_first_layer = true}},
      {"KhaMlp", {.q_heads = 8, .knock = Knock::kMlp, .qk_norm = true, .biases = true}},
      {"Iha",
       {.q_heads = 3, .kv_heads = 3, .window = 24, .plain_last_layer = true, .pseudo_heads = 2}},
      {"MeaBf16", {.head_norm = true, .dtype = DType::kBf16}, DType::kBf16},
  };
}

// What must never depend on anything but the request: its tokens and their logprobs, to the last
// bit.
struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;
  bool operator==(const Outcome&) const = default;
};

Outcome OutcomeOf(const RecordingSink& sink) {
  EXPECT_TRUE(sink.finish.has_value());
  return {sink.token_ids(), sink.logprobs(), sink.prompt_logprobs};
}

// 64 requests of mixed lengths; every other one is sampled, and some want prompt logprobs.
std::vector<Request> MixedRequests(int count, int vocab_size) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request = RandomRequest(100 + i, 1 + (i * 37) % 90, 2 + (i * 7) % 30, vocab_size);
    if (i % 2 == 1) {
      request.sampling = {.temperature = 0.9f,
                          .top_k = i % 3 == 0 ? 20 : 0,
                          .top_p = 0.95f,
                          .repetition_penalty = 1.1f,
                          .seed = static_cast<uint64_t>(i)};
    }
    request.prompt_logprobs = i % 5 == 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<Outcome> OutcomesTogether(const RandomModelSpec& spec, const HarnessOptions& options,
                                      const std::vector<Request>& requests) {
  EngineHarness harness(spec, options);
  std::vector<Outcome> outcomes;
  for (const auto& sink : harness.Run(requests)) outcomes.push_back(OutcomeOf(*sink));
  EXPECT_EQ(harness.kv().stats().used_pages, 0);
  return outcomes;
}

class InvarianceTest : public ::testing::TestWithParam<std::tuple<std::string, Variant>> {
 protected:
  HarnessOptions Options() const {
    HarnessOptions options{.backend = std::get<0>(GetParam()),
                           .kv_dtype = std::get<1>(GetParam()).kv_dtype};
    if (options.backend == "reference" && options.kv_dtype == DType::kF32) {
      options.kv_dtype = DType::kF64;
    }
    return options;
  }
  const RandomModelSpec& spec() const { return std::get<1>(GetParam()).spec; }
  // The reference is slow; the law is the same for fewer requests.
  int num_requests() const { return std::get<0>(GetParam()) == "reference" ? 8 : 64; }
};

TEST_P(InvarianceTest, RequestsTogetherEqualEachAlone) {
  const std::vector<Request> requests = MixedRequests(num_requests(), spec().vocab_size);
  HarnessOptions together = Options();
  together.num_pages = 1024;
  const std::vector<Outcome> outcomes = OutcomesTogether(spec(), together, requests);
  EngineHarness alone(spec(), Options());
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(OutcomeOf(*alone.Run({requests[i]})[0]), outcomes[i]) << "request " << i;
  }
}

TEST_P(InvarianceTest, ChunkedPrefillEqualsWhole) {
  const std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  HarnessOptions options = Options();
  options.max_num_seqs = 7;
  options.max_batch_tokens = 512;
  const std::vector<Outcome> whole = OutcomesTogether(spec(), options, requests);
  for (const int budget : {7, 16, 33}) {
    options.max_batch_tokens = budget;
    EXPECT_EQ(OutcomesTogether(spec(), options, requests), whole) << budget;
  }
}

TEST_P(InvarianceTest, PageSizesAgree) {
  const std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  HarnessOptions options = Options();
  const std::vector<Outcome> outcomes = OutcomesTogether(spec(), options, requests);
  for (const int page_size : {32, 64, 128}) {
    options.page_size = page_size;
    EXPECT_EQ(OutcomesTogether(spec(), options, requests), outcomes) << page_size;
  }
}

TEST_P(InvarianceTest, ThreadsDoNotMatter) {
  const std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  HarnessOptions options = Options();
  options.num_threads = 1;
  const std::vector<Outcome> outcomes = OutcomesTogether(spec(), options, requests);
  options.num_threads = 5;
  EXPECT_EQ(OutcomesTogether(spec(), options, requests), outcomes);
}

TEST_P(InvarianceTest, PreemptedEqualsUninterrupted) {
  std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  for (Request& request : requests) request.stopping.max_tokens = 40;
  const std::vector<Outcome> outcomes = OutcomesTogether(spec(), Options(), requests);
  HarnessOptions scarce = Options();
  scarce.num_pages = 12;
  EngineHarness harness(spec(), scarce);
  const auto sinks = harness.Run(requests);
  EXPECT_GT(harness.core().stats().num_preemptions, 0);
  for (size_t i = 0; i < sinks.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), outcomes[i]) << i;
}

// Conversations that begin alike, and whose next turn repeats the last one's answer.
TEST_P(InvarianceTest, APrefixHitEqualsAColdRun) {
  std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  const std::vector<int32_t> opening = RandomRequest(7, 45, 1, spec().vocab_size).prompt;
  for (Request& request : requests) {
    request.prompt.insert(request.prompt.begin(), opening.begin(), opening.end());
  }
  HarnessOptions options = Options();
  const std::vector<Outcome> cold = OutcomesTogether(spec(), options, requests);
  options.prefix_cache = true;
  EngineHarness warm(spec(), options);
  for (const bool again : {false, true}) {
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto sink = warm.Run({requests[i]})[0];
      EXPECT_EQ(OutcomeOf(*sink), cold[i]) << i;
      // Logprobs of a prompt need all of it computed. The first to come finds nothing.
      const bool may_hit = !requests[i].prompt_logprobs && (again || i > 0);
      EXPECT_EQ(sink->finish->usage.cached_tokens > 0, may_hit) << i;
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    Request next = requests[i];
    next.prompt.insert(next.prompt.end(), cold[i].tokens.begin(), cold[i].tokens.end());
    next.prompt.push_back(1);
    const Outcome expected = OutcomesTogether(spec(), Options(), {next})[0];
    const auto sink = warm.Run({next})[0];
    EXPECT_EQ(OutcomeOf(*sink), expected) << i;
    if (next.prompt_logprobs) continue;
    // All full pages but that of the last token, drawn ones included.
    const int length = static_cast<int>(next.prompt.size());
    EXPECT_GE(sink->finish->usage.cached_tokens, (length - 2) / 16 * 16 - 16) << i;
  }
}

TEST_P(InvarianceTest, PrefixHitsUnderPreemptionEqualColdRuns) {
  std::vector<Request> requests = MixedRequests(6, spec().vocab_size);
  const std::vector<int32_t> opening = RandomRequest(7, 20, 1, spec().vocab_size).prompt;
  for (Request& request : requests) {
    request.prompt.insert(request.prompt.begin(), opening.begin(), opening.end());
    request.stopping.max_tokens = 40;
  }
  const std::vector<Outcome> cold = OutcomesTogether(spec(), Options(), requests);
  HarnessOptions scarce = Options();
  scarce.num_pages = 12;
  scarce.prefix_cache = true;
  EngineHarness harness(spec(), scarce);
  const auto sinks = harness.Run(requests);
  EXPECT_GT(harness.core().stats().num_preemptions, 0);
  for (size_t i = 0; i < sinks.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), cold[i]) << i;
  const KvCacheStats kv = harness.kv().stats();
  EXPECT_EQ(kv.used_pages, 0);
  EXPECT_EQ(kv.free_pages + kv.cached_pages, kv.num_pages);
}

std::vector<Request> SeparateRequests(const Request& request, int n) {
  std::vector<Request> separate(n, request);
  for (int i = 0; i < n; ++i) {
    separate[i].id = absl::StrCat(request.id, "-", i);
    separate[i].sampling.seed += i;
    separate[i].prompt_logprobs &= i == 0;
  }
  return separate;
}

// Prompts that end within a page, at its end, and with its first token; shorter than one, longer
// than a step.
TEST_P(InvarianceTest, CompletionsOfOnePromptEqualSeparateRequests) {
  for (const bool prefix_cache : {false, true}) {
    for (const int length : {1, 11, 32, 33, 90}) {
      Request request = RandomRequest(length, length, 12, spec().vocab_size);
      request.sampling = {.temperature = 0.9f, .repetition_penalty = 1.1f, .seed = 77};
      request.prompt_logprobs = length == 33;
      HarnessOptions options = Options();
      const std::vector<Outcome> separate =
          OutcomesTogether(spec(), options, SeparateRequests(request, 4));
      options.prefix_cache = prefix_cache;
      EngineHarness harness(spec(), options);
      const auto sinks = harness.AddAll(request, 4);
      harness.RunUntilIdle();
      for (int i = 0; i < 4; ++i)
        EXPECT_EQ(OutcomeOf(*sinks[i]), separate[i]) << length << " " << i;
      // The prompt once, and its last token for each of the others.
      EXPECT_EQ(harness.core().stats().prompt_tokens, length + 3) << length;
      EXPECT_EQ(harness.kv().stats().used_pages, 0);
    }
  }
}

TEST_P(InvarianceTest, PreemptedCompletionsEqualSeparateRequests) {
  Request request = RandomRequest(5, 40, 60, spec().vocab_size);
  request.sampling = {.temperature = 0.9f, .seed = 77};
  const std::vector<Outcome> separate =
      OutcomesTogether(spec(), Options(), SeparateRequests(request, 4));
  for (const bool prefix_cache : {false, true}) {
    for (const int num_pages : {7, 8, 12}) {  // one alone needs seven
      HarnessOptions scarce = Options();
      scarce.num_pages = num_pages;
      scarce.prefix_cache = prefix_cache;
      EngineHarness harness(spec(), scarce);
      const auto sinks = harness.AddAll(request, 4);
      harness.RunUntilIdle();
      EXPECT_GT(harness.core().stats().num_preemptions, 0);
      for (int i = 0; i < 4; ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), separate[i]) << i;
      EXPECT_EQ(harness.kv().stats().used_pages, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, InvarianceTest,
                         ::testing::Combine(::testing::Values("cpu", "reference"),
                                            ::testing::ValuesIn(Variants())),
                         [](const auto& variant) {
                           return std::get<0>(variant.param) + std::get<1>(variant.param).name;
                         });

class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  HarnessOptions Options() const {
    return {.backend = GetParam(), .kv_dtype = GetParam() == "cpu" ? DType::kF32 : DType::kF64};
  }
};

TEST_P(BackendTest, OneHotCompositionEqualsThePlainTwin) {
  for (const bool qk_norm : {false, true}) {
    RandomModelSpec plain{.plain = true, .qk_norm = qk_norm};
    RandomModelSpec one_hot{.one_hot_mix = true, .qk_norm = qk_norm};
    const std::vector<Request> requests = MixedRequests(6, plain.vocab_size);
    const std::vector<Outcome> expected = OutcomesTogether(plain, Options(), requests);
    const std::vector<Outcome> outcomes = OutcomesTogether(one_hot, Options(), requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(outcomes[i].tokens, expected[i].tokens);
      // With QK-norm the composed twin divides logits by the norm where the plain one divides keys.
      const float tolerance = !qk_norm ? 0.0f : GetParam() == "cpu" ? 1e-5f : 1e-6f;
      EXPECT_THAT(outcomes[i].logprobs,
                  ::testing::Pointwise(::testing::FloatNear(tolerance), expected[i].logprobs));
    }
  }
}

// One pseudo head for each head, mixed of that head alone, is the head itself.
TEST_P(BackendTest, OneInterleavedPseudoHeadEqualsMultiHeadAttention) {
  const RandomModelSpec plain{.window = 24, .plain = true, .biases = true};
  RandomModelSpec one_hot{.window = 24, .one_hot_mix = true, .pseudo_heads = 1, .biases = true};
  const std::vector<Request> requests = MixedRequests(6, plain.vocab_size);
  EXPECT_EQ(OutcomesTogether(one_hot, Options(), requests),
            OutcomesTogether(plain, Options(), requests));
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendTest, ::testing::Values("cpu", "reference"),
                         [](const auto& variant) { return variant.param; });

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
  EXPECT_EQ(usage.kv_bytes_uncompressed, 2 * usage.kv_bytes);
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
