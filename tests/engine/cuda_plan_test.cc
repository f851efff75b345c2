// What is planned for a GPU that need not be there is what an engine takes on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/clock.h"
#include "engine/device.h"
#include "engine/engine_loop.h"
#include "engine/load.h"
#include "engine/plan.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/support/checkpoint_writer.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

constexpr char kModel[] = MEA_SOURCE_DIR "/models/demo-mea";

// The emulated device as the module would plan for it.
PlannedDevice Emulated(const Backend* backend) {
  return {.device = Device::kCuda, .backend_bytes = [backend](const BackendLimits& limits) {
            return backend->PlannedBytes(limits);
          }};
}

PlanOptions Options(const Backend* backend) {
  return {
      .memory_bytes = MemoryShare(200 << 20, 0.9),
      .device = Emulated(backend),
      .limits = {.max_batch_tokens = 64, .max_num_seqs = 8, .max_logit_rows = 8, .page_size = 64}};
}

int64_t BytesInUse(const Backend& backend) {
  return backend.memory()->total_bytes - backend.memory()->free_bytes;
}

// An engine as StartEngine makes it, on the emulated device, with the cache that was planned.
std::unique_ptr<EngineLoop> Start(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model,
                                  const Plan& plan) {
  const KvLayout layout = model->MakeKvLayout(DType::kBf16, 64);
  EngineParts parts{.options = {.device = "cuda", .max_num_seqs = 8}, .model = std::move(model)};
  parts.backends.push_back(std::move(backend));
  parts.kv = CreateKvCache(parts.model->backends(), layout, plan.cache_bytes).value();
  return std::make_unique<EngineLoop>(std::move(parts));
}

void ExpectPlanned(const Engine& engine, const Plan& plan, int64_t device_bytes) {
  const MemoryPlan taken = engine.memory_plan();
  EXPECT_EQ(taken.weights_bytes, plan.weights_bytes);
  EXPECT_EQ(taken.workspace_bytes, plan.workspace_bytes);
  EXPECT_EQ(taken.scratch_bytes, plan.scratch_bytes);
  EXPECT_EQ(taken.graphs_bytes, plan.graphs_bytes);
  EXPECT_EQ(taken.kv_cache_bytes, plan.physical.num_tokens * plan.physical.bytes_per_token);
  EXPECT_GT(plan.scratch_bytes, 0);
  EXPECT_GT(plan.graphs_bytes, 0);
  // And nothing else was.
  EXPECT_EQ(device_bytes, taken.weights_bytes + taken.workspace_bytes + taken.scratch_bytes +
                              taken.kv_cache_bytes);
}

TEST(CudaPlanTest, ACheckpointTakesWhatWasPlanned) {
  std::unique_ptr<Backend> device = MakeCuda();
  const int64_t before = BytesInUse(*device);
  const Checkpoint checkpoint = OpenCheckpoint(kModel).value();
  const PlanOptions options = Options(device.get());
  const Plan plan = PlanMemory(checkpoint, options).value();
  auto model = LoadModel(checkpoint, "auto", device.get(), options.limits).value();
  const Backend& backend = *device;
  const auto engine = Start(std::move(device), std::move(model), plan);
  ExpectPlanned(*engine, plan, BytesInUse(backend) - before);
}

TEST(CudaPlanTest, AMatrixWithANaNIsRefusedOnItsWayToTheDevice) {
  const std::unique_ptr<Backend> device = MakeCuda();
  const RandomCheckpointSpec spec{.head_dim = 16, .dtype = DType::kBf16};
  const TempDir dir;
  WriteRandomCheckpoint(dir.path(), spec, 1);
  std::vector<RawTensor> tensors = RandomTensors(spec, 1);
  const auto bad =
      std::ranges::find(tensors, "model.layers.1.mlp.up_proj.weight", &RawTensor::name);
  bad->bytes[2 * (7 * 32 + 3)] = '\xc0';  // NaN, little-endian
  bad->bytes[2 * (7 * 32 + 3) + 1] = '\x7f';
  WriteSafeTensors(dir.path() / "model.safetensors", tensors);
  const Checkpoint checkpoint = OpenCheckpoint(dir.path()).value();
  const auto load = [&](bool check_matrices) {
    return LoadModel(checkpoint, "auto", device.get(), {.max_batch_tokens = 16, .page_size = 64},
                     {}, {.check_matrices = check_matrices})
        .status();
  };
  EXPECT_THAT(std::string(load(true).message()),
              ::testing::EndsWith("\"model.layers.1.mlp.up_proj.weight\": expected finite values "
                                  "in bf16, found an infinity or NaN at [7, 3]"));
  EXPECT_EQ(load(false), absl::OkStatus());
}

// Plans and starts a model with random weights, generates from it, and holds what it takes against
// the plan.
void ExpectPlannedWithRandomWeights(const RandomModelSpec& spec) {
  std::unique_ptr<Backend> device = MakeCuda();
  const int64_t before = BytesInUse(*device);
  const ModelConfig config = MakeConfig(spec);
  const PlanOptions options = Options(device.get());
  const Plan plan = PlanRandomModel(config, options).value();
  auto model =
      MakeRandomModel(config, "auto", 1, OnOneDevice(device.get(), config), options.limits).value();
  const Backend& backend = *device;
  auto engine = Start(std::move(device), std::move(model), plan);
  const int64_t device_bytes = BytesInUse(backend) - before;
  ExpectPlanned(*engine, plan, device_bytes);

  auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine->Submit(RandomRequest(1, 20, 8, config.vocab_size), sink).ok());
  engine->Drain(Now() + absl::Minutes(5));
  const BackendCounters counters = engine->stats().device;
  EXPECT_EQ(counters.allocations, 0);
  EXPECT_EQ(counters.graphs, 2);  // of the layers and of the output, one row each
  EXPECT_GT(counters.graph_replays, 4);
  EXPECT_GE(counters.eager_runs, 4);  // the prompt and its output; both graphs' first runs
  EXPECT_EQ(BytesInUse(backend) - before, device_bytes);
  engine.reset();  // its thread has told the sink
  ASSERT_TRUE(sink->finish.has_value());
  EXPECT_EQ(sink->finish->status, absl::OkStatus());
}

// Every tensor is a multiple of 64 bytes, as in all but odd models: nothing lies between them.
constexpr RandomModelSpec kEvenModel{.hidden_size = 64,
                                     .q_heads = 8,
                                     .kv_heads = 8,
                                     .head_dim = 64,
                                     .vocab_size = 64,
                                     .qk_norm = true};

TEST(CudaPlanTest, RandomWeightsTakeWhatWasPlannedAndStepsAllocateNothing) {
  ExpectPlannedWithRandomWeights(kEvenModel);
}

TEST(CudaPlanTest, SoDoExperts) {
  RandomModelSpec spec = kEvenModel;
  spec.num_experts = 4;
  spec.expert_ffn_size = 32;
  spec.dense_first_layer = true;
  ExpectPlannedWithRandomWeights(spec);
}

TEST(CudaPlanTest, WhatTheDeviceCannotDoIsRefusedByName) {
  const std::unique_ptr<Backend> device = MakeCuda();
  ModelConfig config = MakeConfig({});
  config.vocab_size = 1 << 30;
  const PlanOptions options = Options(device.get());
  EXPECT_THAT(std::string(PlanRandomModel(config, options).status().message()),
              ::testing::StartsWith("the CUDA back end takes no vocabulary of 1073741824"));
  PlanOptions f32 = options;
  f32.weight_dtype = "f32";
  EXPECT_EQ(PlanRandomModel(config, f32).status().message(),
            "--weight-dtype f32: the device computes with bf16 weights");
}

}  // namespace
}  // namespace mea::testing
