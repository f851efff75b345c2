#include "engine/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "engine/model/model_weights.h"
#include "kernels/machine.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

constexpr char kModel[] = MEA_SOURCE_DIR "/models/demo-mea";

TEST(PlanTest, EqualsWhatAnEngineAllocates) {
  const auto backend = CreateCpuBackend({.num_threads = 1}).value();
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  for (const char* dtype : {"auto", "f32", "bf16"}) {
    const PlanOptions options{.memory_bytes = 64 << 20, .weight_dtype = dtype};
    const Plan plan = PlanMemory(checkpoint, options).value();
    const auto model = LoadModel(checkpoint, dtype, backend.get(), options.limits).value();
    EXPECT_EQ(model->weights_bytes(), plan.weights_bytes);
    EXPECT_EQ(model->workspace_bytes(), plan.workspace_bytes);
    EXPECT_EQ(plan.scratch_bytes + plan.graphs_bytes, 0);
    EXPECT_EQ(plan.cache_bytes + plan.weights_bytes + plan.workspace_bytes, options.memory_bytes);
  }
}

TEST(PlanTest, EqualsWhatAModelWithExpertsAllocates) {
  const auto backend = CreateCpuBackend({.num_threads = 1}).value();
  testing::TempDir dir;
  for (const std::vector<int>& dense : {std::vector<int>{}, {0}, {0, 1}}) {
    testing::WriteRandomCheckpoint(
        dir.path(), {.base_model_type = "qwen3_moe", .num_experts = 5, .dense_layers = dense}, 1);
    const Checkpoint checkpoint = OpenCheckpoint(dir.path()).value();
    const PlanOptions options{.memory_bytes = 64 << 20};
    const Plan plan = PlanMemory(checkpoint, options).value();
    const auto model = LoadModel(checkpoint, "auto", backend.get(), options.limits).value();
    EXPECT_EQ(model->weights_bytes(), plan.weights_bytes);
    EXPECT_EQ(model->workspace_bytes(), plan.workspace_bytes);
    EXPECT_EQ(PlanRandomModel(checkpoint.config, options)->weights_bytes,
              MakeRandomWeights(checkpoint.config, DType::kBf16, 1, 1)->num_bytes);
  }
}

TEST(PlanTest, AModelWithoutACheckpointIsPlannedFromItsConfiguration) {
  const ModelConfig config = OpenCheckpoint(kModel)->config;
  const Plan plan = PlanRandomModel(config, {.memory_bytes = 64 << 20}).value();
  EXPECT_EQ(plan.weights_bytes, MakeRandomWeights(config, DType::kBf16, 1, 1)->num_bytes);
}

TEST(PlanTest, AShorterContextTakesNoLessMemoryForItselfAndFitsMoreOften) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  PlanOptions options{.memory_bytes = 64 << 20};
  const Plan full = PlanMemory(checkpoint, options).value();
  options.context = full.context / 2;
  const Plan half = PlanMemory(checkpoint, options).value();
  EXPECT_EQ(half.context, full.context / 2);
  EXPECT_GE(half.physical.num_sequences, 2 * full.physical.num_sequences);
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
  EXPECT_THAT(std::string(plan.refusal.message()),
              ::testing::MatchesRegex("weights of [0-9.]+ .iB, .* leave none of the 1.00 MiB .*"));
}

TEST(PlanTest, TheDefaultCacheIsWhatAnEngineTakes) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  PlanOptions options{
      .memory_bytes = ReadMachineLimits().memory_bytes,
      .limits =
          ResolveLimits({.max_batch_tokens = 0, .max_num_seqs = 0, .page_size = 0}, Device::kCpu)
              .value()};
  const auto engine = StartEngine({.model_dir = kModel, .device = "cpu", .num_threads = 1}).value();
  const Plan plan = PlanMemory(checkpoint, options).value();
  EXPECT_EQ(plan.default_cache_bytes, engine->memory_plan().kv_cache_bytes);
  EXPECT_EQ(plan.by_default.num_sequences, engine->memory_plan().max_sequences);
  options.memory_bytes = 240 << 20;
  EXPECT_EQ(PlanMemory(checkpoint, options)->default_cache_bytes, 60 << 20);  // a quarter
}

TEST(PlanTest, ALimitOfZeroIsTheDevices) {
  const ModelLimits limits =
      ResolveLimits({.max_batch_tokens = 0, .max_num_seqs = 0, .page_size = 0}, Device::kCuda)
          .value();
  EXPECT_EQ(limits.max_batch_tokens, 2048);
  EXPECT_EQ(limits.max_num_seqs, 256);
  EXPECT_EQ(limits.max_logit_rows, 256);
  EXPECT_EQ(limits.page_size, 64);
  const ModelLimits asked =
      ResolveLimits({.max_batch_tokens = 8, .max_num_seqs = 0, .page_size = 128}, Device::kCuda)
          .value();
  EXPECT_EQ(asked.max_batch_tokens, 8);
  EXPECT_EQ(asked.max_num_seqs, 8);  // no more than a step has tokens
  EXPECT_EQ(asked.page_size, 128);
}

TEST(PlanTest, LimitsThatNoEngineCanHaveAreNamed) {
  EXPECT_EQ(
      ResolveLimits({.max_batch_tokens = 50, .max_num_seqs = 100}, Device::kCpu).status().message(),
      "--max-num-seqs 100 exceeds --max-batch-tokens 50");
  EXPECT_EQ(ResolveLimits({.page_size = 24}, Device::kCpu).status().message(),
            "--page-size 24 is not a multiple of 16");
  EXPECT_EQ(ResolveLimits({.page_size = 32}, Device::kCuda).status().message(),
            "--page-size 32 is not a multiple of 64");
}

TEST(PlanTest, OptionsOutOfRangeAreNamed) {
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  EXPECT_EQ(PlanMemory(checkpoint, {.context = 513}).status().message(),
            "--context 513 exceeds the model's context of 512");
  EXPECT_EQ(PlanMemory(checkpoint, {.weight_dtype = "int3"}).status().message(),
            "--weight-dtype \"int3\" is none of auto, f32, bf16, int8, int4");
  EXPECT_EQ(PlanMemory(checkpoint, {.kv_dtype = "fp8"}).status().message(),
            "--kv-dtype \"fp8\" is none of bf16, f32, int8, int4, or a pair as "
            "k=int8,v=int4");
  EXPECT_EQ(ParseWeightDType("int4").value(), DType::kI4);
  EXPECT_EQ(WeightDTypeFor("int4", DType::kBf16).status().message(),
            "--weight-dtype int4: the device computes with bf16 weights");
  EXPECT_EQ(ParseKvDType("int8").value(), DType::kI8);
  EXPECT_EQ(ParseKvDType("k=int8,v=f32").value(), KvDTypes(DType::kI8, DType::kF32));
  EXPECT_EQ(ParseKvDType("k=int8,v=int4").value(), KvDTypes(DType::kI8, DType::kI4));
  EXPECT_EQ(ParseKvDType("v=f32,k=int8").value(), KvDTypes(DType::kI8, DType::kF32));
  for (const char* wrong : {"", ",", "k=int8", "k=int8,", "k=int8,k=int8", "k=int8,v=fp8",
                            "int8,bf16", "k=int8,v=bf16,", "k=int8,v=bf16,v=f32", "i32"}) {
    EXPECT_EQ(ParseKvDType(wrong).status().message(),
              absl::StrCat("--kv-dtype \"", wrong, "\" is none of ", kKvDTypes));
  }
  EXPECT_EQ(ParseKvDType("bf16", Device::kCuda).value(), DType::kBf16);
  EXPECT_EQ(ParseKvDType("int8", Device::kCuda).value(), DType::kI8);
  EXPECT_EQ(ParseKvDType("k=bf16,v=int4", Device::kCuda).value(),
            KvDTypes(DType::kBf16, DType::kI4));
  EXPECT_EQ(ParseKvDType("f32", Device::kCuda).status().message(),
            "--kv-dtype f32: on cuda the cache is bf16, int8 or int4");
  EXPECT_EQ(ParseKvDType("k=int8,v=f32", Device::kCuda).status().message(),
            "--kv-dtype k=int8,v=f32: on cuda the cache is bf16, int8 or int4");
}

TEST(PlanTest, KeysWithBiasesAreNoIntegersOnADevice) {
  ModelConfig config;
  config.qkv_bias = true;
  const KvDTypes mixed(DType::kI8, DType::kI4);
  EXPECT_EQ(CheckKvDType(config, mixed, Device::kCuda).message(),
            "--kv-dtype k=int8,v=int4: on cuda keys of a model that adds biases to them are bf16: "
            "k=bf16,v=int4");
  EXPECT_TRUE(CheckKvDType(config, mixed, Device::kCpu).ok());
  EXPECT_TRUE(CheckKvDType(config, {DType::kBf16, DType::kI4}, Device::kCuda).ok());
  config.layers.qk_norm = true;  // normed, a bias is like the rest of a key
  EXPECT_TRUE(CheckKvDType(config, mixed, Device::kCuda).ok());
}

}  // namespace
}  // namespace mea
