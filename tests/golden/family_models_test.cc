#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/golden/check_models.h"
#include "tests/kernels/cuda/tested_backend.h"

// The families whose mathematics is not Llama's, plain and with composed heads, against
// transformers in float64 (tools/golden/make_family_models.py). All 64 greedy tokens are to be
// equal: no path passes near a tie.
namespace mea::golden {
namespace {

class FamilyModelsTest : public ::testing::TestWithParam<RandomModel> {
 protected:
  // How many models were continued: 1 where weights are exact.
  int Check(Backend& backend, const Variant& variant, const char* what) {
    return CheckAll({GetParam()}, backend, variant, what);
  }

  // Four norms a layer, with gains up to two, carry what BF16 rounds further.
  static Variant Bfloat(Variant variant) {
    if (GetParam().name.starts_with("gemma3")) variant.tolerance = 8e-2;
    return variant;
  }
};

TEST_P(FamilyModelsTest, ReferenceBackEndEqualsTransformers) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_EQ(Check(*backend, kReference, "the reference back end"), 1);
}

TEST_P(FamilyModelsTest, CpuEqualsTransformersInFloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ(Check(**backend, kFloat, "the CPU in F32"), 1);
}

TEST_P(FamilyModelsTest, CpuStaysNearTransformersInBfloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  Variant variant = Bfloat(kBfloat);
  if (CpuRoundsRows()) variant.tolerance *= 2;
  Check(**backend, variant, "the CPU with BF16 weights and cache");
}

TEST_P(FamilyModelsTest, EmulatedCudaStaysNearTransformersInBfloat) {
  Check(*MakeCuda(), Bfloat(kCuda), "emulated CUDA");
}

INSTANTIATE_TEST_SUITE_P(Family, FamilyModelsTest,
                         ::testing::ValuesIn(LoadRandomModels("family_models.jsonl")),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace mea::golden
