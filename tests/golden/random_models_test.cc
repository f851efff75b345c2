#include <gtest/gtest.h>

#include <memory>

#include "tests/golden/check_models.h"
#include "tests/kernels/cuda/tested_backend.h"

// The engine against an independent float64 reading of the papers (tools/golden/mea_reference.py),
// on random models of every shape.
namespace mea::golden {
namespace {

const std::vector<RandomModel>& RandomModels() {
  static const auto* models = new std::vector(LoadRandomModels("random_models.jsonl"));
  return *models;
}

// Those with knocking or interleaved heads, the linear knocks apart: the engine folds these into
// projections, which it rounds to their format.
std::vector<RandomModel> KnockedAndInterleaved(bool is_linear) {
  std::vector<RandomModel> models = LoadRandomModels("kha_iha_models.jsonl");
  std::erase_if(models, [is_linear](const RandomModel& model) {
    const bool linear = model.config_json.find(R"("knock":"linear")") != std::string::npos;
    return linear != is_linear;
  });
  return models;
}

TEST(RandomModelsTest, ReferenceBackEndEqualsThePapers) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_GE(CheckAll(RandomModels(), *backend, kReference, "the reference back end"), 200);
}

TEST(RandomModelsTest, CpuEqualsThePapersInFloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_GE(CheckAll(RandomModels(), **backend, kFloat, "the CPU in F32"), 200);
}

TEST(RandomModelsTest, CpuStaysNearThePapersInBfloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  CheckAll(RandomModels(), **backend, CpuBfloat(), "the CPU with BF16 weights and cache");
}

TEST(RandomModelsTest, EmulatedCudaStaysNearThePapersInBfloat) {
  CheckAll(RandomModels(), *MakeCuda(), kCuda, "emulated CUDA");
}

TEST(KnockedAndInterleavedModelsTest, ReferenceBackEndEqualsThePapers) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_GE(CheckAll(KnockedAndInterleaved(false), *backend, kReference,
                     "the reference back end with KHA's MLP and IHA"),
            35);
  Variant folded = kReference;
  folded.tolerance = 1e-5;  // folded weights round to F32 as the unfolded did
  folded.safe_margin = 1e-3;
  EXPECT_GE(CheckAll(KnockedAndInterleaved(true), *backend, folded,
                     "the reference back end with folded knocks"),
            17);
}

TEST(KnockedAndInterleavedModelsTest, CpuEqualsThePapersInFloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  for (const bool is_linear : {false, true}) {
    EXPECT_GE(CheckAll(KnockedAndInterleaved(is_linear), **backend, kFloat,
                       is_linear ? "the CPU in F32 with folded knocks"
                                 : "the CPU in F32 with KHA's MLP and IHA"),
              17);
  }
}

TEST(KnockedAndInterleavedModelsTest, CpuStaysNearThePapersInBfloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  for (const bool is_linear : {false, true}) {
    CheckAll(KnockedAndInterleaved(is_linear), **backend, CpuBfloat(),
             is_linear ? "the CPU in BF16 with folded knocks"
                       : "the CPU in BF16 with KHA's MLP and IHA");
  }
}

TEST(KnockedAndInterleavedModelsTest, EmulatedCudaStaysNearThePapersInBfloat) {
  for (const bool is_linear : {false, true}) {
    CheckAll(
        KnockedAndInterleaved(is_linear), *MakeCuda(), kCuda,
        is_linear ? "emulated CUDA with folded knocks" : "emulated CUDA with KHA's MLP and IHA");
  }
}

}  // namespace
}  // namespace mea::golden
