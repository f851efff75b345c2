// A model over several emulated GPUs: each has a stream, graphs and memory of its own, which no
// kernel of another reaches. What it says is what one GPU says, to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "engine/checkpoint/checkpoint.h"
#include "engine/device.h"
#include "engine/device_memory.h"
#include "engine/load.h"
#include "tests/engine/outcome.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/simt/machine.h"
#include "tests/support/engine_harness.h"

namespace mea::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;

constexpr HarnessOptions kGpuOptions = {
    .page_size = 64, .num_pages = 64, .max_num_seqs = 16, .kv_dtype = DType::kBf16};

// Backends of GPUs 0, 1, ...
class Gpus {
 public:
  explicit Gpus(int count, CudaOptions options = kTestedCuda) {
    for (options.device = 0; options.device < count; ++options.device) {
      owned_.push_back(MakeCuda(options));
    }
  }
  const std::vector<std::unique_ptr<Backend>>& owned() const { return owned_; }
  std::vector<Backend*> backends() const {
    std::vector<Backend*> backends;
    for (const auto& backend : owned_) backends.push_back(backend.get());
    return backends;
  }

 private:
  std::vector<std::unique_ptr<Backend>> owned_;
};

struct GpuModel {
  std::string name;
  RandomModelSpec spec;
};
void PrintTo(const GpuModel& model, std::ostream* out) { *out << model.name; }

std::vector<GpuModel> GpuModels() {
  return {{"Mea", {.num_layers = 5, .head_norm = true, .dtype = DType::kBf16}},
          {"MeaMixedLayersWindow",
           {.num_layers = 5,
            .window = 24,
            .plain_last_layer = true,
            .qk_norm = true,
            .dtype = DType::kBf16}},
          {"IhaGroups",
           {.num_layers = 5,
            .q_heads = 3,
            .kv_heads = 3,
            .window = 24,
            .plain_last_layer = true,
            .pseudo_heads = 2,
            .dtype = DType::kBf16}},
          {"MeaMoe",
           {.num_layers = 4, .num_experts = 4, .dense_first_layer = true, .dtype = DType::kBf16}}};
}

class CudaStagesTest : public ::testing::TestWithParam<GpuModel> {
 protected:
  CudaStagesTest() { simt::ResetMachine({.num_devices = 4}); }
  ~CudaStagesTest() override { simt::ResetMachine(); }

  const RandomModelSpec& spec() const { return GetParam().spec; }
  std::vector<Outcome> Run(int num_gpus, const std::vector<Request>& requests,
                           HarnessOptions options = kGpuOptions) {
    const Gpus gpus(num_gpus);
    options.devices = gpus.backends();
    EngineHarness harness(spec(), options);
    std::vector<Outcome> outcomes;
    for (const auto& sink : harness.Run(requests)) outcomes.push_back(OutcomeOf(*sink));
    replays_.clear();
    for (const Backend* backend : gpus.backends()) {
      replays_.push_back(backend->counters().graph_replays);
    }
    num_launched_ahead_ = harness.num_launched_ahead();
    return outcomes;
  }

  // Of the last Run:
  std::vector<int64_t> replays_;  // of each GPU
  int num_launched_ahead_ = 0;
};

TEST_P(CudaStagesTest, SayWhatOneGpuSays) {
  const std::vector<Request> requests = MixedRequests(4, spec().vocab_size);
  const std::vector<Outcome> expected = Run(1, requests);
  for (const int num_gpus : {2, 4}) {
    EXPECT_EQ(Run(num_gpus, requests), expected) << num_gpus;
    EXPECT_THAT(replays_, Each(Gt(5)));
  }
}

// Tokens that the last GPU draws are embedded on the first before the host knows them.
TEST_P(CudaStagesTest, LaunchAheadAsOneGpuDoes) {
  std::vector<Request> requests = MixedRequests(4, spec().vocab_size);
  for (Request& request : requests) {
    request.sampling.repetition_penalty = 1;
    request.prompt_logprobs = false;
  }
  const std::vector<Outcome> expected = Run(1, requests);
  HarnessOptions ahead = kGpuOptions;
  ahead.launches_ahead = true;
  for (const int num_gpus : {2, 4}) {
    EXPECT_EQ(Run(num_gpus, requests, ahead), expected) << num_gpus;
    EXPECT_GT(num_launched_ahead_, 5);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaStagesTest, ::testing::ValuesIn(GpuModels()),
                         [](const auto& model) { return model.param.name; });

// The last GPU is well, and draws from what the first has not computed.
TEST(CudaStagesFailureTest, EveryRequestEndsInternalWhicheverGpuFails) {
  const RandomModelSpec spec{.num_layers = 2, .head_norm = true, .dtype = DType::kBf16};
  const std::vector<Request> requests = {RandomRequest(1, 20, 4, spec.vocab_size),
                                         RandomRequest(2, 3, 6, spec.vocab_size)};
  std::vector<std::vector<int32_t>> expected;
  const auto run = [&](int64_t kernel) {
    simt::ResetMachine({.num_devices = 2});
    const Gpus gpus(2);
    HarnessOptions options = kGpuOptions;
    options.devices = gpus.backends();
    options.launches_ahead = true;
    EngineHarness harness(spec, options);
    const int64_t before = simt::NumKernels();
    simt::FailKernel(kernel, cudaErrorIllegalAddress);
    const auto sinks = harness.Run(requests);
    const bool failed = !harness.core().device_status().ok();
    EXPECT_EQ(failed, kernel > 0);
    EXPECT_EQ(harness.kv().stats().used_pages, 0);
    bool any_internal = false;
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->finish.has_value());
      any_internal |= absl::IsInternal(sink->finish->status);
    }
    if (!failed) {
      for (const auto& sink : sinks) expected.push_back(sink->token_ids());
    }
    // Nobody is told a token that is drawn from nothing.
    for (size_t i = 0; i < sinks.size(); ++i) {
      std::vector<int32_t> due = expected[i];
      const std::vector<int32_t> told = sinks[i]->token_ids();
      if (!sinks[i]->finish->status.ok()) due.resize(std::min(told.size(), due.size()));
      EXPECT_EQ(told, due);
    }
    EXPECT_EQ(any_internal, failed);
    return simt::NumKernels() - before;
  };
  const int64_t num_kernels = run(-1);
  ASSERT_GT(num_kernels, 50);
  for (int64_t kernel = 1; kernel <= num_kernels; kernel += 5) {
    SCOPED_TRACE(kernel);
    run(kernel);
  }
  simt::ResetMachine();
}

std::vector<int> SizesOf(const std::vector<StagePlace>& places) {
  std::vector<int> sizes;
  for (const StagePlace& place : places) sizes.push_back(place.layers.size());
  return sizes;
}

// The tokens of one greedy request.
std::vector<int32_t> Generate(Model& model, KvCache& kv) {
  EngineCore core(&model, &kv, 8, {});
  auto sink = std::make_shared<RecordingSink>();
  core.Add(RandomRequest(1, 20, 12, model.config().vocab_size), sink);
  while (core.has_work()) {
    core.RunStep(absl::UnixEpoch());
    core.Deliver();
  }
  EXPECT_TRUE(sink->finish.has_value() && sink->finish->status.ok());
  return sink->token_ids();
}

// A checkpoint whose output is its embedding: the last GPU has a copy. The second GPU has less
// memory free, so it gets fewer layers.
TEST(CudaStagesMemoryTest, EachGpuTakesWhatWasPlannedAndTheCacheHasTheRest) {
  simt::ResetMachine({.memory_bytes = 48 << 20, .num_devices = 2});
  {
    const Checkpoint checkpoint = OpenCheckpoint(MEA_SOURCE_DIR "/models/demo-mea").value();
    ASSERT_TRUE(checkpoint.config.tie_word_embeddings);
    const ModelLimits limits{
        .max_batch_tokens = 64, .max_num_seqs = 8, .max_logit_rows = 8, .page_size = 64};
    const Gpus gpus(2);
    const StageCosts costs(
        checkpoint.config, limits, DType::kBf16, Device::kCuda,
        [&](LayerRange layers) {
          return PlannedWeightBytes(checkpoint, layers, {.weight_dtype = DType::kBf16});
        },
        [&](const BackendLimits& asked) { return gpus.backends()[0]->PlannedBytes(asked); });
    EXPECT_THAT(SizesOf(PlaceStages(costs, gpus.owned(), 0.9).value()), ElementsAre(2, 2));
    const std::array<int64_t, 1> taken = {20 << 20};
    const Tensor others = gpus.backends()[1]->Allocate(taken, DType::kI8).value();
    const auto places = PlaceStages(costs, gpus.owned(), 0.9).value();
    EXPECT_THAT(SizesOf(places), ElementsAre(3, 1));

    const std::array<int64_t, 2> before = {simt::DeviceBytesInUse(0), simt::DeviceBytesInUse(1)};
    const auto model = LoadModel(checkpoint, "auto", places, limits).value();
    const KvLayout layout = model->MakeKvLayout(DType::kBf16, 64);
    const int64_t cache_bytes = DeviceKvCacheBytes(*model, layout, 0.9).value();
    const auto kv = CreateKvCache(model->backends(), layout, cache_bytes).value();
    EXPECT_EQ(kv->allocated_bytes(), cache_bytes);
    int64_t most_left = 0;
    for (int gpu = 0; gpu < 2; ++gpu) {
      const StageBytes bytes = costs.Of(places[gpu].layers).value();
      EXPECT_EQ(model->weights().stage_bytes[gpu], bytes.weights);
      EXPECT_EQ(simt::DeviceBytesInUse(gpu) - before[gpu],
                bytes.fixed() - bytes.backend.graphs + kv->stats().num_pages * bytes.page);
      const int64_t left =
          MemoryShare(48 << 20, 0.9) - bytes.backend.graphs - simt::DeviceBytesInUse(gpu);
      EXPECT_GE(left, 0);
      most_left = std::max(most_left, bytes.page - left);
    }
    EXPECT_GT(most_left, 0) << "another page would have fitted";

    const Gpus one(1);
    const auto whole = LoadModel(checkpoint, "auto", one.backends()[0], limits).value();
    const auto whole_kv =
        KvCache::Create(whole->backend(), whole->MakeKvLayout(DType::kBf16, 64), 4).value();
    EXPECT_EQ(Generate(*model, *kv), Generate(*whole, *whole_kv));
  }
  simt::ResetMachine();
}

}  // namespace
}  // namespace mea::testing
