// Models that compress some layers and leave others: the three of the MEA paper (arXiv 2601.19611,
// section 5.2) in the shape of Qwen3-30B-A3B, but narrow. 48 layers with experts, 4 KV heads, of
// which compressed layers cache 2.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model.h"
#include "tests/golden/golden_data.h"
#include "tests/golden/offline_model.h"
#include "tests/support/checkpoint_writer.h"

namespace mea::golden {
namespace {

constexpr int kLayers = 48;
constexpr int kHeadDim = 8;

struct MixedModel {
  const char* name;
  int first, last;  // compressed layers, counted from 1 as the paper does
};
void PrintTo(const MixedModel& model, std::ostream* out) { *out << model.name; }

class MixedModelsTest : public ::testing::TestWithParam<MixedModel> {
 protected:
  MixedModelsTest() {
    testing::RandomCheckpointSpec spec{.base_model_type = "qwen3_moe",
                                       .hidden_size = 16,
                                       .num_layers = kLayers,
                                       .q_heads = 8,
                                       .kv_heads = 4,
                                       .head_dim = kHeadDim,
                                       .expert_ffn_size = 8,
                                       .mea = true,
                                       .write_identity_mix = false};
    spec.key_heads.assign(kLayers, 4);
    for (int layer = GetParam().first; layer <= GetParam().last; ++layer) {
      spec.key_heads[layer - 1] = 2;
    }
    spec.value_heads = spec.key_heads;
    testing::WriteRandomCheckpoint(dir_.path(), spec, /*seed=*/5);
  }

  int num_compressed() const { return GetParam().last - GetParam().first + 1; }

  testing::TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(Paper, MixedModelsTest,
                         ::testing::Values(MixedModel{"Full", 1, 48}, MixedModel{"Half", 12, 35},
                                           MixedModel{"Deep", 4, 48}),
                         [](const auto& test) { return test.param.name; });

TEST_P(MixedModelsTest, OneCacheHoldsBothKindsOfLayersByteForByte) {
  const ModelConfig config = OpenCheckpoint(dir_.path())->config;
  EXPECT_EQ(config.num_sparse_layers(), kLayers);
  const KvLayout layout = MakeKvLayout(config, DType::kBf16, {.page_size = 16});
  // Keys and values in BF16; composed keys under QK-norm have a norm for each of the 4 heads.
  constexpr int kPlain = 2 * 4 * kHeadDim * 2;
  constexpr int kCompressed = 2 * 2 * kHeadDim * 2 + 4 * 4;
  const int num_plain = kLayers - num_compressed();
  EXPECT_EQ(layout.BytesPerToken(), num_plain * kPlain + num_compressed() * kCompressed);
  EXPECT_EQ(layout.UncompressedBytesPerToken(), kLayers * kPlain);

  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  const std::unique_ptr<KvCache> kv = KvCache::Create(*backend, layout, /*num_pages=*/3).value();
  EXPECT_EQ(kv->stats().num_pages, 3);
  for (int layer = 0; layer < kLayers; ++layer) {
    const bool is_compressed = GetParam().first <= layer + 1 && layer + 1 <= GetParam().last;
    const int64_t heads = is_compressed ? 2 : 4;
    EXPECT_EQ(kv->layer(layer).keys.shape[1], heads) << layer;
    EXPECT_EQ(kv->layer(layer).values.shape[1], heads) << layer;
    EXPECT_EQ(kv->layer(layer).key_norms.empty(), !is_compressed) << layer;
  }
}

TEST_P(MixedModelsTest, BackEndsComputeTheSame) {
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 38, 46};
  const int last = static_cast<int>(tokens.size()) - 1;
  const auto logits = [&](Backend& backend, const OfflineOptions& options) {
    return OfflineModel(dir_.path(), backend, options).Logits(tokens, {&last, 1})[0];
  };
  const std::unique_ptr<Backend> reference = CreateReferenceBackend();
  const auto whole = logits(*reference, {.kv_dtype = DType::kF64, .page_size = 16, .chunk = 32});
  const auto in_chunks = logits(*reference, {.kv_dtype = DType::kF64, .page_size = 3, .chunk = 5});
  EXPECT_EQ(in_chunks, whole);
  const std::unique_ptr<Backend> cpu = CreateCpuBackend({.num_threads = 2}).value();
  const auto fast = logits(*cpu, {.kv_dtype = DType::kF32, .page_size = 16, .chunk = 7});
  EXPECT_LE(RelativeError(fast, whole), 1e-4);
}

}  // namespace
}  // namespace mea::golden
