#include "engine/plan.h"

#include <gtest/gtest.h>

namespace mea {
namespace {

constexpr char kModel[] = MEA_SOURCE_DIR "/models/demo-mea";

TEST(PlanTest, EqualsWhatAnEngineAllocates) {
  const auto backend = CreateReferenceBackend();
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  const PlanOptions options{.memory_bytes = 64 << 20};
  const Plan plan = PlanMemory(checkpoint, options).value();
  const auto workspace = Workspace::Create(checkpoint.config, options.limits, *backend);
  EXPECT_EQ(workspace->num_bytes(), 2 * plan.workspace_bytes);  // the reference computes in doubles
  EXPECT_EQ(plan.cache_bytes + plan.weights_bytes + plan.workspace_bytes, options.memory_bytes);
}

TEST(PlanTest, HalfOfTheBytesHoldTwiceTheTokens) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  const Plan plan = PlanMemory(checkpoint, {.memory_bytes = 64 << 20, .context = 100}).value();
  EXPECT_EQ(2 * plan.physical.bytes_per_token, plan.uncompressed.bytes_per_token);
  EXPECT_EQ(plan.physical.num_tokens / 64, plan.uncompressed.num_tokens / 32);
  // A sequence of 100 tokens takes four pages of 32.
  EXPECT_EQ(plan.physical.num_sequences, plan.physical.num_tokens / 128);
}

TEST(PlanTest, TooLittleMemoryHoldsNothing) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  const Plan plan = PlanMemory(checkpoint, {.memory_bytes = 1 << 20}).value();
  EXPECT_EQ(plan.cache_bytes, 0);
  EXPECT_EQ(plan.physical.num_sequences, 0);
}

TEST(PlanTest, OptionsOutOfRangeAreNamed) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  EXPECT_EQ(PlanMemory(checkpoint, {.context = 513}).status().message(),
            "--context 513 exceeds the model's context of 512");
  EXPECT_EQ(PlanMemory(checkpoint, {.weight_dtype = "int3"}).status().message(),
            "--weight-dtype \"int3\" is none of auto, f32, bf16");
  EXPECT_EQ(PlanMemory(checkpoint, {.kv_dtype = "fp8"}).status().message(),
            "--kv-dtype \"fp8\" is none of bf16, f32");
}

}  // namespace
}  // namespace mea
