#include "engine/bench/stepper.h"

#include <gtest/gtest.h>

#include "engine/bench/head_storage.h"
#include "engine/model/model_weights.h"
#include "tests/support/random_model.h"

namespace mea {
namespace {

using testing::MakeConfig;

constexpr int kPageSize = 16;

struct Steps {
  explicit Steps(const ModelConfig& config, int num_pages = 8) {
    backend = *CreateCpuBackend({.num_threads = 2});
    ModelWeights weights = *MakeRandomWeights(config, DType::kF32, 3, 1);
    EXPECT_TRUE(MakeMixesOneHot(weights, *backend).ok());
    model = *Model::Create(config, std::move(weights), backend.get(),
                           {.max_batch_tokens = 64, .page_size = kPageSize});
    kv = *KvCache::Create(*backend, model->MakeKvLayout(DType::kBf16, kPageSize), num_pages);
    EXPECT_TRUE(FillCache(*backend, *kv).ok());
    stepper = std::make_unique<Stepper>(model.get(), kv.get());
  }

  std::vector<int32_t> Draw(const std::vector<StepSequence>& sequences) {
    EXPECT_TRUE(stepper->Set(sequences).ok());
    EXPECT_TRUE(stepper->Run(1).ok());
    std::vector<int32_t> ids;
    for (const SampledToken& token : stepper->tokens()) {
      EXPECT_TRUE(token.is_finite);
      ids.push_back(token.token_id);
    }
    return ids;
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv;
  std::unique_ptr<Stepper> stepper;
};

ModelConfig Uncompressed() { return WithStorage(MakeConfig({}), HeadStorage::kOneHot); }

TEST(StepperTest, AStepRepeatsItself) {
  Steps steps(Uncompressed());
  const std::vector<StepSequence> sequences = {{.length = 40}, {.length = 17}};
  const std::vector<int32_t> first = steps.Draw(sequences);
  EXPECT_EQ(first.size(), 2u);
  EXPECT_TRUE(steps.stepper->Run(1).ok());
  EXPECT_EQ(steps.stepper->tokens()[0].token_id, first[0]);
  EXPECT_EQ(steps.stepper->tokens()[1].token_id, first[1]);
}

TEST(StepperTest, ComputesTheRowsAskedForAndDrawsOneTokenEach) {
  Steps steps(Uncompressed());
  EXPECT_EQ(steps.Draw({{.length = 40, .num_tokens = 24}, {.length = 9}}).size(), 2u);
  EXPECT_EQ(steps.stepper->num_rows(), 25);
}

TEST(StepperTest, TooManySequencesForTheCacheAreRefused) {
  Steps steps(Uncompressed(), 2);
  EXPECT_TRUE(steps.stepper->Set({{.length = 32}}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(steps.stepper->Set({{.length = 32}, {.length = 1}})));
  EXPECT_TRUE(steps.stepper->Set({{.length = 32}}).ok());  // the pages came back
}

TEST(HeadStorageTest, TwinsStoreEveryVirtualHead) {
  const ModelConfig mea = MakeConfig({.kv_heads = 4, .key_heads = 2, .value_heads = 1});
  for (const HeadStorage storage : {HeadStorage::kOneHot, HeadStorage::kPlain}) {
    const ModelConfig twin = WithStorage(mea, storage);
    for (const LayerHeads& heads : twin.layer_heads) {
      EXPECT_EQ(heads.key_heads, 4);
      EXPECT_EQ(heads.value_heads, 4);
      EXPECT_EQ(heads.key_mix, storage == HeadStorage::kOneHot);
    }
    EXPECT_FALSE(twin.compressed());
  }
  EXPECT_EQ(WithStorage(mea, HeadStorage::kAsConfigured).layer_heads, mea.layer_heads);
}

}  // namespace
}  // namespace mea
