// The benchmarks on a device, an emulated one: what its back end must be prepared for, and that a
// point too large for its memory is skipped.
#include <gtest/gtest.h>

#include "engine/bench/attention_bench.h"
#include "engine/bench/engine_bench.h"
#include "engine/model/model_weights.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/op_support.h"
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
  options.roofline = {.copy_bytes = 1 << 16, .product_size = 64};
  options.beyond_caches_bytes = 0;
  options.rounds = 1;
  options.round_seconds = 0;
  return options;
}

absl::StatusOr<std::unique_ptr<Backend>> Emulated() { return MakeCuda(); }

absl::StatusOr<ModelWeights> Weights(const ModelConfig& config, HeadStorage storage,
                                     Backend& backend) {
  auto weights = MakeRandomWeightsOn(OnOneDevice(&backend, config), config, 1);
  if (storage != HeadStorage::kOneHot) return weights;
  if (absl::Status s = MakeMixesOneHot(*weights, backend); !s.ok()) return s;
  return weights;
}

TEST(CudaBenchTest, WeightsMadeOnTheDeviceLieWhereOneProductReadsThem) {
  const ModelConfig config = SmallConfig();
  const std::unique_ptr<Backend> backend = MakeCuda();
  const ModelWeights made = *MakeRandomWeightsOn(OnOneDevice(backend.get(), config), config, 1);
  const ModelWeights on_host = *MakeRandomWeights(config, DType::kBf16, 1, 1);
  EXPECT_EQ(made.num_bytes, on_host.num_bytes);
  const auto end = [](TensorView view) {
    return static_cast<char*>(view.data) + view.num_elements() * DTypeSize(view.dtype);
  };
  for (const LayerWeights& layer : made.layers) {
    EXPECT_EQ(end(layer.q_proj), layer.k_proj.data);
    EXPECT_EQ(end(layer.k_proj), layer.v_proj.data);
    EXPECT_EQ(end(layer.gate_proj), layer.up_proj.data);
  }
  // The numbers are those of the host, as far as they do not repeat.
  for (const auto& [view, wanted] :
       {std::pair(made.layers[1].o_proj, on_host.layers[1].o_proj),
        std::pair(made.layers[0].mix.key, on_host.layers[0].mix.key)}) {
    ASSERT_TRUE(view.device == Device::kCuda);
    const Tensor copy = *backend->AllocateHost(std::span(view.shape).first(view.rank), view.dtype);
    backend->Download(view, copy.view());
    ASSERT_TRUE(backend->Synchronize().ok());
    EXPECT_LT(RelativeError(copy.view(), wanted), 0.01);
  }
}

TEST(CudaBenchTest, StepsAreMeasured) {
  const auto rows = BenchEngine(SmallConfig(), Quick(), Emulated, Weights);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 8u);
  for (const BenchRow& row : *rows) {
    EXPECT_EQ(row.skipped, "");
    EXPECT_GT(row.seconds.median, 0);
    EXPECT_GT(row.roofline.bytes_per_second, 0);
  }
}

TEST(CudaBenchTest, AttentionIsMeasuredUpToTheDevicesMemory) {
  EngineBenchOptions options = Quick();
  options.batches = {2, 1 << 12};  // the second takes more than the emulated gibibyte
  options.contexts = {640};
  const auto rows = BenchAttention(SmallConfig(), options, Emulated);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 8u);  // and chunks behind 0 and 640 tokens
  EXPECT_EQ((*rows)[0].skipped, "");
  EXPECT_EQ((*rows)[1].skipped, "");
  EXPECT_EQ((*rows)[2].skipped, "does not fit");
  EXPECT_EQ((*rows)[3].skipped, "does not fit");
  EXPECT_EQ((*rows)[7].skipped, "");
  EXPECT_EQ((*rows)[7].context, 660);
}

}  // namespace
}  // namespace mea
