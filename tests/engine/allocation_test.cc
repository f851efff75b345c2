// A binary of its own: it counts what the whole program asks for.
#include <gtest/gtest.h>

#include "tests/support/allocation_counter.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

class DeafSink final : public TokenSink {
  void OnToken(TokenEvent) override {}
  void OnFinish(FinishEvent) override {}
};

struct Case {
  const char* name;
  RandomModelSpec model;
  KvDTypes kv_dtype = DType::kBf16;
};

class AllocationTest : public ::testing::TestWithParam<Case> {};

// Schedule, batch, forward pass, draws, pages that fill and are indexed, events: once all sequences
// decode and every buffer has had its size once, nothing asks for memory. On one thread: of
// several, chance decides which meets an item first and makes its scratch then.
TEST_P(AllocationTest, DecodeStepsAskForNone) {
  constexpr int kNumSequences = 9;
  constexpr int kPrompt = 40;
  constexpr int kWarmUp = 20;
  constexpr int kSteps = 60;  // three pages of every sequence
  EngineHarness harness(GetParam().model, {.num_threads = 1,
                                           .page_size = 16,
                                           .num_pages = 128,
                                           .max_batch_tokens = 128,
                                           .kv_dtype = GetParam().kv_dtype,
                                           .prefix_cache = true});
  EngineCore& core = harness.core();
  for (int i = 0; i < kNumSequences; ++i) {
    Request request =
        RandomRequest(i, kPrompt + i, 2 * (kWarmUp + kSteps), GetParam().model.vocab_size);
    if (i % 2 == 0) request.logprobs.reset();
    request.sampling.temperature = 0.8f;
    request.sampling.top_p = 0.95f;
    core.Add(std::move(request), std::make_shared<DeafSink>());
  }
  const auto step = [&] {
    const StepReport report = core.RunStep(absl::UnixEpoch());
    core.Deliver();
    return report.num_decode_tokens;
  };
  while (step() < kNumSequences) continue;
  for (int i = 0; i < kWarmUp; ++i) step();
  const int64_t before = NumAllocations();
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(step(), kNumSequences);
  EXPECT_EQ(NumAllocations() - before, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, AllocationTest,
                         ::testing::Values(Case{"Mea", {.qk_norm = true, .dtype = DType::kBf16}},
                                           Case{"Int8Cache", {.dtype = DType::kBf16}, DType::kI8},
                                           Case{"Int4Cache", {.dtype = DType::kBf16}, DType::kI4},
                                           Case{"Windows", {.window = 24, .global_layer = 0}},
                                           Case{"Experts", {.num_experts = 4}},
                                           Case{"Pseudo", {.window = 512, .pseudo_heads = 2}}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace mea::testing
