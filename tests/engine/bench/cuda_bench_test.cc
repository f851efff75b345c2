// The benchmarks on a device, an emulated one: what its back end must be prepared for, and that a
// point too large for its memory is skipped.
#include <gtest/gtest.h>

#include "engine/bench/attention_bench.h"
#include "engine/bench/engine_bench.h"
#include "engine/model/random_weights.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/support/random_model.h"

namespace mea {
namespace {

using testing::MakeConfig;

ModelConfig SmallConfig() {
  return MakeConfig({.kv_heads = 4, .head_dim = 64, .qk_norm = true, .dtype = DType::kBf16});
}

EngineBenchOptions Quick() {
  EngineBenchOptions options;
  options.storages = {HeadStorage::kAsConfigured, HeadStorage::kOneHot};
  options.batches = {1, 3};
  options.contexts = {70};
  options.prefill_chunks = {20};
  options.ceilings = {.copy_bytes = 1 << 16, .product_size = 64};
  options.beyond_caches_bytes = 0;
  options.rounds = 1;
  options.round_seconds = 0;
  return options;
}

absl::StatusOr<std::unique_ptr<Backend>> Emulated() { return MakeCuda(); }

absl::StatusOr<ModelWeights> Weights(const ModelConfig& config, HeadStorage storage) {
  auto weights = MakeRandomWeights(config, DType::kBf16, 1, 1);
  if (storage == HeadStorage::kOneHot) MakeMixesOneHot(*weights);
  return weights;
}

TEST(CudaBenchTest, StepsAreMeasured) {
  const auto rows = BenchEngine(SmallConfig(), Quick(), Emulated, Weights);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 8u);
  for (const BenchRow& row : *rows) {
    EXPECT_EQ(row.skipped, "");
    EXPECT_GT(row.seconds.median, 0);
    EXPECT_GT(row.ceilings.bytes_per_second, 0);
  }
}

TEST(CudaBenchTest, AttentionIsMeasuredUpToTheDevicesMemory) {
  EngineBenchOptions options = Quick();
  options.batches = {2, 1 << 12};  // the second takes more than the emulated gibibyte
  options.contexts = {640};
  const auto rows = BenchAttention(SmallConfig(), options, Emulated);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 4u);
  EXPECT_EQ((*rows)[0].skipped, "");
  EXPECT_EQ((*rows)[1].skipped, "");
  EXPECT_EQ((*rows)[2].skipped, "does not fit");
  EXPECT_EQ((*rows)[3].skipped, "does not fit");
}

}  // namespace
}  // namespace mea
