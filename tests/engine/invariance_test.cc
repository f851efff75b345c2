#include "engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/outcome.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

struct Variant {
  std::string name;
  RandomModelSpec spec;
  KvDTypes kv_dtype = DType::kF32;
};

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

std::vector<Variant> Variants() {
  return {
      {"Mha", {.plain = true}},
      {"Gqa", {.q_heads = 8, .kv_heads = 2, .plain = true, .qk_norm = true, .biases = true}},
      {"Mea", {.head_norm = true}},
      {"MeaUnequalBudgets", {.q_heads = 8, .key_heads = 3, .value_heads = 1, .head_norm = true}},
      {"MeaQkNorm", {.q_heads = 8, .qk_norm = true}},
      {"MeaMixedLayers", {.num_layers = 3, .plain_last_layer = true, .qk_norm = true}},
      {"MeaWindow", {.window = 24, .head_norm = true}},
      {"MeaGlobalLayer", {.num_layers = 3, .window = 24, .global_layer = 1, .qk_norm = true}},
      {"MeaMoe", {.qk_norm = true, .num_experts = 6, .dense_first_layer = true}},
      {"KhaMlp", {.q_heads = 8, .knock = true, .qk_norm = true, .biases = true}},
      {"Iha",
       {.q_heads = 3, .kv_heads = 3, .window = 24, .plain_last_layer = true, .pseudo_heads = 2}},
      {"MeaInt8", {.qk_norm = true, .dtype = DType::kI8}, DType::kBf16},
      {"MeaInt4", {.qk_norm = true, .dtype = DType::kI4}, DType::kBf16},
      {"MoeInt4", {.num_experts = 6, .dtype = DType::kI4}},
      {"MeaInt8Cache", {.q_heads = 8, .qk_norm = true}, DType::kI8},
      {"MeaFormatsApart", {.q_heads = 8, .qk_norm = true}, {DType::kI8, DType::kI4}},
      {"MeaInt4Cache", {.q_heads = 8, .qk_norm = true}, DType::kI4},
      {"GqaInt4Cache", {.q_heads = 8, .kv_heads = 2, .plain = true}, DType::kI4},
      {"IhaInt4Cache",
       {.q_heads = 3, .kv_heads = 3, .window = 24, .plain_last_layer = true, .pseudo_heads = 2},
       DType::kI4},
      {"MeaKeyBiasInt4Cache", {.biases = true, .key_bias = 20}, {DType::kI4, DType::kI8}},
      {"MeaKeyBiasInt8Cache", {.biases = true, .key_bias = 20}, DType::kI8},
      {"MeaBf16", {.head_norm = true, .dtype = DType::kBf16}, DType::kBf16},
  };
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
  int told = 0;
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_EQ(OutcomeOf(*sinks[i]), outcomes[i]) << i;
    told += sinks[i]->finish->usage.num_preemptions;
  }
  EXPECT_EQ(told, harness.core().stats().num_preemptions);
}

// Conversations that begin alike, and whose next message repeats the last one's answer.
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
      // What windows give back makes twelve enough for all four.
      const bool gives_back = harness.kv().layout().group_windows[0] > 0;
      EXPECT_TRUE(harness.core().stats().num_preemptions > 0 || (num_pages == 12 && gives_back));
      for (int i = 0; i < 4; ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), separate[i]) << i;
      EXPECT_EQ(harness.kv().stats().used_pages, 0);
    }
  }
}

class WindowTest : public InvarianceTest {};

// Long enough for windows to leave most of it; other sequences take the pages.
TEST_P(WindowTest, GivingBackWhatWindowsHaveLeftChangesNothing) {
  std::vector<Request> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(RandomRequest(i, 200 + 17 * i, 40, spec().vocab_size));
  }
  HarnessOptions options = Options();
  options.keeps_all_pages = true;
  const std::vector<Outcome> kept = OutcomesTogether(spec(), options, requests);
  options.keeps_all_pages = false;
  for (const bool prefix_cache : {false, true}) {
    options.prefix_cache = prefix_cache;
    EngineHarness harness(spec(), options);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const Request& request : requests) sinks.push_back(harness.Add(request));
    int most = 0;
    for (; harness.core().has_work(); harness.Step()) {
      most = std::max(most, harness.kv().stats().used_pages);
    }
    for (size_t i = 0; i < sinks.size(); ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), kept[i]) << i;
    const KvLayout& layout = harness.kv().layout();
    // Pages of 16 tokens that four sequences of up to 291 would hold at most, kept.
    const auto num_windowed =
        static_cast<int>(std::ranges::count(layout.group_windows, spec().window));
    EXPECT_GT(num_windowed, 0);
    EXPECT_LE(most, 4 * (19 * layout.num_groups() - 10 * num_windowed));
  }
}

std::vector<Variant> Windowed() {
  std::vector<Variant> variants = Variants();
  std::erase_if(variants, [](const Variant& variant) { return variant.spec.window == 0; });
  return variants;
}

std::string NameOf(const ::testing::TestParamInfo<InvarianceTest::ParamType>& test) {
  return std::get<0>(test.param) + std::get<1>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(Backends, InvarianceTest,
                         ::testing::Combine(::testing::Values("cpu", "reference"),
                                            ::testing::ValuesIn(Variants())),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, WindowTest,
                         ::testing::Combine(::testing::Values("cpu", "reference"),
                                            ::testing::ValuesIn(Windowed())),
                         NameOf);

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

}  // namespace
}  // namespace mea::testing
