// A model over several devices says what it says on one, to the bit: its layers cut into stages, on
// back ends of the host that stand for devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/outcome.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

struct StagedModel {
  std::string name;
  RandomModelSpec spec;
  KvDTypes kv_dtype = DType::kF32;
};

void PrintTo(const StagedModel& model, std::ostream* out) { *out << model.name; }

// Five layers: no number of stages divides them.
std::vector<StagedModel> StagedModels() {
  return {
      {"Gqa",
       {.num_layers = 5,
        .q_heads = 8,
        .kv_heads = 2,
        .plain = true,
        .qk_norm = true,
        .biases = true}},
      {"Mea", {.num_layers = 5, .head_norm = true}},
      {"MeaMixedLayers", {.num_layers = 5, .plain_last_layer = true, .qk_norm = true}},
      {"MeaGlobalLayer", {.num_layers = 5, .window = 24, .global_layer = 3, .qk_norm = true}},
      {"MeaMoe", {.num_layers = 5, .num_experts = 6, .dense_first_layer = true}},
      {"KhaMlp", {.num_layers = 5, .q_heads = 8, .knock = true, .qk_norm = true}},
      {"Iha",
       {.num_layers = 5,
        .q_heads = 3,
        .kv_heads = 3,
        .window = 24,
        .plain_last_layer = true,
        .pseudo_heads = 2}},
      {"MeaKeyBiasInt4Cache",
       {.num_layers = 5, .biases = true, .key_bias = 20},
       {DType::kI4, DType::kI8}},
  };
}

class StagesTest : public ::testing::TestWithParam<std::tuple<std::string, StagedModel>> {
 protected:
  StagesTest() {
    options_.backend = std::get<0>(GetParam());
    options_.num_threads = 1;
    options_.kv_dtype = std::get<1>(GetParam()).kv_dtype;
    if (options_.backend == "reference" && options_.kv_dtype == DType::kF32) {
      options_.kv_dtype = DType::kF64;
    }
  }
  const RandomModelSpec& spec() const { return std::get<1>(GetParam()).spec; }

  std::vector<Outcome> Run(const std::vector<Request>& requests) {
    EngineHarness harness(spec(), options_);
    std::vector<Outcome> outcomes;
    for (const auto& sink : harness.Run(requests)) outcomes.push_back(OutcomeOf(*sink));
    const KvCacheStats kv = harness.kv().stats();
    EXPECT_EQ(kv.used_pages, 0);
    EXPECT_EQ(kv.total_bytes, harness.kv().allocated_bytes());
    num_preemptions_ = harness.core().stats().num_preemptions;
    return outcomes;
  }

  HarnessOptions options_;
  int64_t num_preemptions_ = 0;  // of the last Run
};

TEST_P(StagesTest, SayWhatOneDeviceSays) {
  const std::vector<Request> requests = MixedRequests(8, spec().vocab_size);
  const std::vector<Outcome> expected = Run(requests);
  for (const int num_stages : {2, 4}) {
    options_.num_stages = num_stages;
    EXPECT_EQ(Run(requests), expected) << num_stages;
  }
}

TEST_P(StagesTest, SharePrefixesAndGiveWayAsOneDeviceDoes) {
  std::vector<Request> requests = MixedRequests(5, spec().vocab_size);
  for (Request& request : requests) {
    request.prompt.insert(request.prompt.begin(), 40, 7);
    request.prompt_logprobs = false;
    request.stopping.max_tokens = 40;
  }
  const std::vector<Outcome> expected = Run(requests);
  options_.num_stages = 3;
  options_.num_pages = 12;
  options_.prefix_cache = true;
  EXPECT_EQ(Run(requests), expected);
  EXPECT_GT(num_preemptions_, 0);
}

// Others copy the last page of the first: on every device.
TEST_P(StagesTest, ForkCompletionsOfOnePrompt) {
  Request request = RandomRequest(3, 37, 12, spec().vocab_size);
  request.sampling = {.temperature = 0.9f, .seed = 77};
  const std::vector<Outcome> separate = Run(SeparateRequests(request, 3));
  options_.num_stages = 4;
  EngineHarness harness(spec(), options_);
  const auto sinks = harness.AddAll(request, 3);
  harness.RunUntilIdle();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(OutcomeOf(*sinks[i]), separate[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Backends, StagesTest,
                         ::testing::Combine(::testing::Values("cpu", "reference"),
                                            ::testing::ValuesIn(StagedModels())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + std::get<1>(test.param).name;
                         });

}  // namespace
}  // namespace mea::testing
