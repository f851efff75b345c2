#include "engine/bench/op_meter.h"

#include <gtest/gtest.h>

#include "engine/bench/ops_bench.h"
#include "engine/bench/step_cost.h"
#include "engine/bench/stepper.h"
#include "engine/model/model_weights.h"
#include "tests/support/random_model.h"

namespace mea {
namespace {

using testing::MakeConfig;

// No op is forgotten, and none counted twice.
TEST(OpMeterTest, TheOpsOfAStepCostWhatTheStepCosts) {
  const std::vector<ModelConfig> configs = {
      MakeConfig({}), MakeConfig({.plain = true}), MakeConfig({.qk_norm = true}),
      MakeConfig({.plain = true, .num_experts = 8, .top_k = 2, .dense_first_layer = true})};
  for (const ModelConfig& config : configs) {
    const auto backend = *CreateCpuBackend({.num_threads = 1});
    auto observer = std::make_unique<OpMeter>();
    OpMeter& meter = *observer;
    backend->set_observer(std::move(observer));
    const auto model = *Model::Create(config, *MakeRandomWeights(config, DType::kBf16, 1, 1),
                                      backend.get(), {.max_batch_tokens = 32, .page_size = 16});
    const auto kv = *KvCache::Create(*backend, model->MakeKvLayout(DType::kBf16, 16), 8);
    ASSERT_TRUE(FillCache(*backend, *kv).ok());
    Stepper stepper(model.get(), kv.get());
    ASSERT_TRUE(stepper.Set({{.length = 40, .num_tokens = 7}, {.length = 17}}).ok());
    meter.Reset();
    ASSERT_TRUE(stepper.Run(1).ok());

    OpCost sum;
    for (const auto& [kind, total] : meter.totals()) {
      EXPECT_GT(total.seconds, 0) << kind;
      sum += total.cost;
    }
    const std::vector<SequenceLengths> sequences = {{.q_len = 7, .kv_len = 40},
                                                    {.q_len = 1, .kv_len = 17}};
    EXPECT_EQ(sum, StepCost(config, {.weights = DType::kBf16}, sequences, 2));
    EXPECT_EQ(meter.totals().at("PagedAttention").calls, config.num_layers);
  }
}

TEST(OpsBenchTest, TimesEveryKindOfOpOfEveryPoint) {
  EngineBenchOptions options;
  options.batches = {2};
  options.contexts = {40};
  options.prefill_chunks = {8};
  options.page_size = 16;
  options.roofline.num_threads = 1;
  options.rounds = 2;
  options.round_seconds = 0;
  const auto backends = [] { return CreateCpuBackend({.num_threads = 1}); };
  const auto weights = [](const ModelConfig& config, HeadStorage, Backend&) {
    return MakeRandomWeights(config, DType::kBf16, 1, 1);
  };
  const std::vector<BenchRow> rows = *BenchOps(MakeConfig({}), options, backends, weights);
  int attention = 0;
  double before = 1e9;
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.seconds.rounds, 2);
    if (row.tokens == 1) {
      EXPECT_LE(row.seconds.median, before);
      before = row.seconds.median;
    }
    attention += row.bench == "PagedAttention" && row.share_of_floor() > 0;
  }
  EXPECT_EQ(attention, 3);  // decode, and a chunk behind none and 40 tokens
  options.storages.push_back(HeadStorage::kOneHot);
  EXPECT_TRUE(
      absl::IsInvalidArgument(BenchOps(MakeConfig({}), options, backends, weights).status()));
}

}  // namespace
}  // namespace mea
