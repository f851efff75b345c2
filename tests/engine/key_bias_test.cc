// Large biases of keys, as Qwen2 has them, in a cache of integers.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <string>

#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

struct KeyBiasCase {
  std::string name;
  std::string backend;
  RandomModelSpec spec;
};
void PrintTo(const KeyBiasCase& c, std::ostream* out) { *out << c.name; }

class KeyBiasTest : public ::testing::TestWithParam<KeyBiasCase> {};

// How far a cache of integers moves the logprobs of prompts, on average.
double MeanError(const KeyBiasCase& c, DType cache, float key_bias) {
  RandomModelSpec spec = c.spec;
  spec.biases = true;
  spec.key_bias = key_bias;
  const auto run = [&](KvDTypes kv_dtype) {
    EngineHarness harness(spec,
                          {.backend = c.backend, .max_batch_tokens = 200, .kv_dtype = kv_dtype});
    std::vector<float> logprobs;
    for (const uint64_t seed : {1, 2, 3}) {
      Request request = RandomRequest(seed, 150, 1, spec.vocab_size);
      request.prompt_logprobs = true;
      const auto sink = harness.Run({request}).front();
      logprobs.insert(logprobs.end(), sink->prompt_logprobs.begin(), sink->prompt_logprobs.end());
    }
    return logprobs;
  };
  const auto exact = run(c.backend == "reference" ? DType::kF64 : DType::kF32);
  const auto rounded = run(cache);
  double sum = 0;
  for (size_t i = 0; i < exact.size(); ++i) sum += std::abs(exact[i] - rounded[i]);
  return sum / static_cast<double>(exact.size());
}

TEST_P(KeyBiasTest, ALargeBiasCostsACacheOfIntegersNothing) {
  for (const DType cache : {DType::kI8, DType::kI4}) {
    const double without = MeanError(GetParam(), cache, 0);
    const double with = MeanError(GetParam(), cache, 150);
    std::cout << GetParam().name << ", " << DTypeName(cache) << ": " << without << " nats without, "
              << with << " with a bias\n";
    // A bias makes another model of it, which attends more sharply. Kept in the keys it costs ten
    // times as much.
    EXPECT_LT(with, 3 * without);
  }
}

TEST_P(KeyBiasTest, BiasesTakeThePlannedMemory) {
  RandomModelSpec spec = GetParam().spec;
  spec.biases = true;
  if (GetParam().backend != "cpu") GTEST_SKIP() << "the reference's numbers are wider";
  EngineHarness harness(spec, {});
  const Model& model = harness.model();
  EXPECT_EQ(model.workspace_bytes(),
            Stage::PlannedWorkspaceBytes(model.config(), model.limits(), AllLayers(model.config()),
                                         Device::kCpu));
}

INSTANTIATE_TEST_SUITE_P(
    All, KeyBiasTest,
    ::testing::Values(KeyBiasCase{"Reference", "reference", {.plain = true}},
                      KeyBiasCase{"Mha", "cpu", {.plain = true}},
                      KeyBiasCase{"Gqa", "cpu", {.q_heads = 8, .kv_heads = 2, .plain = true}},
                      KeyBiasCase{"Mea", "cpu", {.q_heads = 8}},
                      KeyBiasCase{"MeaWindow", "cpu", {.window = 90}},
                      KeyBiasCase{"Kha", "cpu", {.q_heads = 8, .knock = true}}),
    [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace mea::testing
