// The engine on the CUDA back end, emulated or on a device: small models, every op. Activations are
// BF16 there, so it agrees with the reference up to rounding; what must not depend on anything but
// the request is the same to the last bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "engine/warm_up.h"
#include "tests/engine/cuda_variants.h"
#include "tests/engine/damage.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

// Greedy requests that report the five most likely tokens.
std::vector<Request> GreedyRequests(int count, int vocab_size) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request = RandomRequest(100 + i, 1 + (i * 37) % 90, 2 + (i * 7) % 20, vocab_size);
    request.logprobs = 5;
    request.prompt_logprobs = i % 2 == 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

class CudaEngineTest : public ::testing::TestWithParam<CudaVariant> {
 protected:
  CudaEngineTest() : spec_(GetParam().spec) { spec_.dtype = DType::kBf16; }
  void SetUp() override {
    if (MakeCuda() == nullptr) GTEST_SKIP() << "no CUDA device here";
  }

  // What the requests were told, run together.
  std::vector<std::shared_ptr<RecordingSink>> Run(const std::vector<Request>& requests,
                                                  HarnessOptions options, bool graphs = true) {
    CudaOptions cuda = GetParam().cuda;
    if (!graphs) cuda.max_graphs = 0;
    const std::unique_ptr<Backend> device = MakeCuda(cuda);
    options.device = device.get();
    options.kv_dtype = GetParam().kv_dtype;
    EngineHarness harness(spec_, options);
    auto sinks = harness.Run(requests);
    EXPECT_EQ(harness.kv().stats().used_pages, 0);
    counters_ = device->counters();
    num_launched_ahead_ = harness.num_launched_ahead();
    num_preemptions_ = harness.core().stats().num_preemptions;
    return sinks;
  }
  std::vector<std::shared_ptr<RecordingSink>> RunReference(const std::vector<Request>& requests) {
    const KvDTypes kv_dtype = GetParam().kv_dtype;
    return EngineHarness(spec_, {.backend = "reference",
                                 .kv_dtype = kv_dtype == DType::kBf16 ? DType::kF64 : kv_dtype})
        .Run(requests);
  }

  RandomModelSpec spec_;
  // Of the last Run:
  BackendCounters counters_;
  int num_launched_ahead_ = 0;
  int64_t num_preemptions_ = 0;
};

// Tokens and logprobs agree to the bit.
void ExpectSame(const std::vector<std::shared_ptr<RecordingSink>>& a,
                const std::vector<std::shared_ptr<RecordingSink>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "request " << i);
    EXPECT_EQ(a[i]->token_ids(), b[i]->token_ids());
    EXPECT_EQ(a[i]->logprobs(), b[i]->logprobs());
    EXPECT_EQ(a[i]->prompt_logprobs, b[i]->prompt_logprobs);
  }
}

constexpr HarnessOptions kOptions = {.page_size = 64, .num_pages = 64, .max_num_seqs = 16};

// How far rounding of activations and cache to BF16 moves logprobs, in nats: 2^-9 per operation,
// grown by two or three layers of a model whose logits are of order ten. Heads that are mixes of
// few components, normed again after attention, grow it most.
struct Tolerance {
  static constexpr double kAverage = 0.04;  // root mean square
  static constexpr double kWorst = 0.3;
};

class LogprobErrors {
 public:
  void Add(double actual, double expected) {
    const double error = std::abs(actual - expected);
    sum_of_squares_ += error * error;
    worst_ = std::max(worst_, error);
    ++count_;
  }
  double average() const { return std::sqrt(sum_of_squares_ / count_); }
  double worst() const { return worst_; }

 private:
  double sum_of_squares_ = 0;
  double worst_ = 0;
  int count_ = 0;
};

// The others compute the prompt's last token by the kernel of decoding: alike to the bit, and to
// rounding like the first.
TEST_P(CudaEngineTest, CompletionsOfOnePromptAgree) {
  const std::unique_ptr<Backend> device = MakeCuda(kTestedCuda);
  HarnessOptions options = kOptions;
  options.device = device.get();
  options.kv_dtype = GetParam().kv_dtype;
  EngineHarness harness(spec_, options);
  for (const int length : {1, 64, 65, 70}) {
    const auto sinks = harness.AddAll(RandomRequest(5, length, 8, spec_.vocab_size), 4);
    harness.RunUntilIdle();
    ExpectSame({sinks[1], sinks[1]}, {sinks[2], sinks[3]});
    LogprobErrors errors;
    for (size_t t = 0; t < 8; ++t) {
      if (sinks[0]->token_ids()[t] != sinks[1]->token_ids()[t]) break;
      errors.Add(sinks[1]->logprobs()[t], sinks[0]->logprobs()[t]);
    }
    EXPECT_LE(errors.worst(), Tolerance::kWorst) << length;
    EXPECT_EQ(harness.kv().stats().used_pages, 0);
  }
}

TEST_P(CudaEngineTest, DamageEndsItsOwnRequestAlone) {
  for (const bool launches_ahead : {false, true}) {
    HarnessOptions options = kOptions;
    options.kv_dtype = GetParam().kv_dtype;
    options.launches_ahead = launches_ahead;
    const std::unique_ptr<Backend> device = MakeCuda(GetParam().cuda);
    options.device = device.get();
    ExpectADamagedPromptEndsAlone(spec_, options);
  }
}

TEST_P(CudaEngineTest, AgreesWithTheReferenceUpToNearTies) {
  const std::vector<Request> requests = GreedyRequests(8, spec_.vocab_size);
  const auto expected = RunReference(requests);
  const auto actual = Run(requests, kOptions);
  LogprobErrors errors;
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "request " << i);
    ASSERT_TRUE(actual[i]->finish.has_value() && actual[i]->finish->status.ok());
    ASSERT_EQ(actual[i]->prompt_logprobs.size(), expected[i]->prompt_logprobs.size());
    for (size_t p = 0; p < expected[i]->prompt_logprobs.size(); ++p) {
      errors.Add(actual[i]->prompt_logprobs[p], expected[i]->prompt_logprobs[p]);
    }
    ASSERT_EQ(actual[i]->tokens.size(), expected[i]->tokens.size());
    for (size_t t = 0; t < expected[i]->tokens.size(); ++t) {
      const TokenEvent& want = expected[i]->tokens[t];
      const TokenEvent& got = actual[i]->tokens[t];
      if (got.token_id != want.token_id) {
        // The reference must have been close to choosing the same; then the texts part.
        const auto found =
            std::find_if(want.top_logprobs.begin(), want.top_logprobs.end(),
                         [&](const auto& top) { return top.token_id == got.token_id; });
        ASSERT_NE(found, want.top_logprobs.end()) << "token " << t;
        EXPECT_NEAR(found->logprob, *want.logprob, GetParam().coarseness * Tolerance::kWorst)
            << "token " << t;
        break;
      }
      errors.Add(*got.logprob, *want.logprob);
    }
  }
  EXPECT_LE(errors.average(), GetParam().coarseness * Tolerance::kAverage);
  EXPECT_LE(errors.worst(), GetParam().coarseness * Tolerance::kWorst);
  std::cout << GetParam().name << ": logprobs within " << errors.worst() << " of the reference, "
            << errors.average() << " on average\n";
}

TEST_P(CudaEngineTest, ReplayedStepsEqualEagerOnesToTheBit) {
  const std::vector<Request> requests = GreedyRequests(6, spec_.vocab_size);
  const auto replayed = Run(requests, kOptions);
  EXPECT_GT(counters_.graph_replays, 10);
  ExpectSame(replayed, Run(requests, kOptions, /*graphs=*/false));
  EXPECT_EQ(counters_.graph_replays, 0);
}

TEST_P(CudaEngineTest, PageSizesAgreeToTheBit) {
  const std::vector<Request> requests = GreedyRequests(6, spec_.vocab_size);
  HarnessOptions options = kOptions;
  const auto sinks = Run(requests, options);
  options.page_size = 128;
  ExpectSame(sinks, Run(requests, options));
}

TEST_P(CudaEngineTest, AfterTheFirstStepsNothingIsAllocated) {
  const std::unique_ptr<Backend> device = MakeCuda(GetParam().cuda);
  HarnessOptions options = kOptions;
  options.device = device.get();
  options.kv_dtype = GetParam().kv_dtype;
  EngineHarness harness(spec_, options);
  const int64_t allocations = device->counters().allocations;
  harness.Run(GreedyRequests(8, spec_.vocab_size));
  EXPECT_EQ(device->counters().allocations, allocations);
}

INSTANTIATE_TEST_SUITE_P(Models, CudaEngineTest, ::testing::ValuesIn(CudaVariants()),
                         [](const auto& variant) { return variant.param.name; });

// What a server runs: the shares of blocks depend on the batch, so do the last bits of its rows.
class CudaSharesTest : public CudaEngineTest {};

constexpr CudaOptions WithShares(CudaOptions options) {
  options.batch_invariant = false;
  return options;
}
INSTANTIATE_TEST_SUITE_P(
    Models, CudaSharesTest,
    ::testing::Values(CudaVariant{"Mea", {.head_norm = true}, WithShares(kTestedCuda)},
                      CudaVariant{"GqaWgmma",
                                  {.q_heads = 8, .kv_heads = 2, .head_dim = 64, .plain = true},
                                  WithShares(kWgmma)}),
    [](const auto& variant) { return variant.param.name; });

TEST_P(CudaSharesTest, ReplayedStepsEqualEagerOnesToTheBit) {
  const std::vector<Request> requests = GreedyRequests(6, spec_.vocab_size);
  const auto replayed = Run(requests, kOptions);
  EXPECT_GT(counters_.graph_replays, 10);
  ExpectSame(replayed, Run(requests, kOptions, /*graphs=*/false));
}

// A search for the fastest product of a size takes as long as dozens of steps.
TEST(CudaWarmUpTest, RequestsNeverWaitForASearchOrAGraph) {
  CudaOptions cuda = kTestedCuda;
  cuda.search_products = true;
  const std::unique_ptr<Backend> device = MakeCuda(cuda);
  if (device == nullptr) GTEST_SKIP() << "no CUDA device here";
  const RandomModelSpec spec{.head_norm = true, .dtype = DType::kBf16};
  EngineHarness harness(spec, {.device = device.get(),
                               .page_size = 64,
                               .num_pages = 64,
                               .max_num_seqs = 10,
                               .max_logit_rows = 10,
                               .kv_dtype = DType::kBf16});
  ASSERT_TRUE(WarmUp(harness.model(), harness.kv(), {}).ok());
  const BackendCounters start = device->counters();
  EXPECT_GT(start.product_searches, 0);
  std::vector<Request> requests;
  for (const int prompt : {24, 40, 16, 7, 33, 1, 1, 1, 1, 1}) {  // chunks of sizes that recur, too
    requests.push_back(RandomRequest(requests.size(), prompt, 9, spec.vocab_size));
  }
  for (size_t count = 1; count <= requests.size(); ++count) {
    harness.Run({requests.begin(), requests.begin() + count});
  }
  const BackendCounters end = device->counters();
  EXPECT_EQ(end.product_searches, start.product_searches);
  EXPECT_EQ(end.graphs, start.graphs);
  EXPECT_GT(end.graph_replays, start.graph_replays);
}

// What the engine does, whatever the model: two will do.
class CudaLaunchAheadTest : public CudaEngineTest {};

INSTANTIATE_TEST_SUITE_P(Models, CudaLaunchAheadTest,
                         ::testing::Values(CudaVariants()[2], CudaVariants()[8]),
                         [](const auto& variant) { return variant.param.name; });

// Draws of every kind.
std::vector<Request> MixedRequests(int count, int vocab_size) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request = RandomRequest(300 + i, 1 + (i * 29) % 70, 3 + (i * 5) % 24, vocab_size);
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    request.sampling.seed = i;
    request.sampling.top_k = i % 2 == 0 ? 0 : 20;
    request.stopping.min_tokens = i % 4;
    request.logprobs = 2;
    requests.push_back(std::move(request));
  }
  return requests;
}

TEST_P(CudaLaunchAheadTest, DrawsTheSameTokensToTheBit) {
  const std::vector<Request> requests = MixedRequests(8, spec_.vocab_size);
  HarnessOptions options = kOptions;
  // A tenth of the vocabulary ends a request, so that rows are computed whose sequence has ended.
  for (int32_t id = 0; id < spec_.vocab_size; id += 10) options.eos_token_ids.push_back(id);
  options.max_num_seqs = 4;
  options.max_batch_tokens =
      512;  // prompts in one chunk: split otherwise, they are rounded otherwise
  const auto sinks = Run(requests, options);
  EXPECT_EQ(num_launched_ahead_, 0);
  options.launches_ahead = true;
  ExpectSame(sinks, Run(requests, options));
  EXPECT_GT(num_launched_ahead_, 5);
}

TEST_P(CudaLaunchAheadTest, SurvivesPreemptionAndCachedPrefixes) {
  std::vector<Request> requests = MixedRequests(4, spec_.vocab_size);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt.assign(124, 1);
    requests[i].prompt.push_back(static_cast<int32_t>(i));
    requests[i].stopping.max_tokens = 9;  // a third page
  }
  HarnessOptions options = kOptions;
  options.launches_ahead = true;
  const auto sinks = Run(requests, options);
  options.num_pages = 6;
  options.prefix_cache = true;
  const auto squeezed = Run(requests, options);
  EXPECT_GT(num_preemptions_, 0);
  EXPECT_GT(num_launched_ahead_, 5);
  // What is computed anew, and what a cached prefix saves, is rounded otherwise.
  int num_same = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(squeezed[i]->finish.has_value() && squeezed[i]->finish->status.ok());
    EXPECT_EQ(squeezed[i]->tokens.size(), sinks[i]->tokens.size());
    for (const int32_t id : squeezed[i]->token_ids()) EXPECT_GE(id, 0);
    num_same += squeezed[i]->token_ids() == sinks[i]->token_ids() ? 1 : 0;
  }
  EXPECT_GT(num_same, 0);
}

TEST_P(CudaLaunchAheadTest, DrawsThatDependOnTheOutputWaitForIt) {
  std::vector<Request> requests = MixedRequests(4, spec_.vocab_size);
  for (Request& request : requests) {
    request.sampling.frequency_penalty = 1.5f;
    request.sampling.repetition_penalty = 1.2f;
  }
  HarnessOptions options = kOptions;
  const auto sinks = Run(requests, options);
  options.launches_ahead = true;
  ExpectSame(sinks, Run(requests, options));
}

TEST_P(CudaLaunchAheadTest, ARequestCancelledWhileItsTokenIsUnderWayKeepsWhatItHas) {
  const std::unique_ptr<Backend> device = MakeCuda();
  HarnessOptions options = kOptions;
  options.device = device.get();
  options.kv_dtype = DType::kBf16;
  options.launches_ahead = true;
  EngineHarness harness(spec_, options);
  const std::vector<Request> requests = GreedyRequests(2, spec_.vocab_size);
  const auto stays = harness.Add(requests[0]);
  auto leaver = RandomRequest(7, 5, 40, spec_.vocab_size);
  const auto leaves = harness.Add(leaver);
  while (leaves->tokens.size() < 3) harness.Step();
  EXPECT_TRUE(harness.core().Finish(leaver.id, absl::CancelledError("enough")));
  // The id is free again while the step under way still computes a row of the old request.
  leaver.stopping.max_tokens = 2;
  const auto again = harness.Add(leaver);
  harness.RunUntilIdle();
  ASSERT_TRUE(leaves->finish.has_value() && again->finish.has_value());
  EXPECT_EQ(leaves->finish->status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(leaves->finish->usage.completion_tokens, static_cast<int>(leaves->tokens.size()));
  EXPECT_EQ(again->token_ids().size(), 2u);
  EXPECT_TRUE(stays->finish->status.ok());
  EXPECT_EQ(harness.kv().stats().used_pages, 0);
}

}  // namespace
}  // namespace mea::testing
