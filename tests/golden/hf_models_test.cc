#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "tests/golden/golden_data.h"
#include "tests/golden/offline_model.h"

// The engine on checkpoints that transformers saved, against what transformers makes of them.
namespace mea::golden {
namespace {

class HfModelsTest : public ::testing::TestWithParam<HfModel> {
 protected:
  // Relative error of the last position's logits, after the greedy tokens turned out equal.
  double CheckGreedy(Backend& backend, const OfflineOptions& options) {
    const HfModel& model = GetParam();
    OfflineModel offline(model.dir, backend, options);
    const int num_tokens = static_cast<int>(model.greedy.size());
    EXPECT_EQ(num_tokens, 64);
    EXPECT_EQ(offline.Greedy({&model.prompt, 1}, num_tokens)[0], model.greedy);

    const int last = static_cast<int>(model.prompt.size()) - 1;
    return RelativeError(offline.Logits(model.prompt, {&last, 1})[0], model.logits);
  }
};

// transformers itself is 1e-6 away from float64 (README.md).
TEST_P(HfModelsTest, ReferenceBackEndContinuesAlike) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_LE(CheckGreedy(*backend, {.kv_dtype = DType::kF64, .page_size = 16, .chunk = 7}), 1e-5);
}

TEST_P(HfModelsTest, CpuContinuesAlike) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_LE(CheckGreedy(**backend, {.kv_dtype = DType::kF32, .page_size = 32, .chunk = 64}), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Hf, HfModelsTest, ::testing::ValuesIn(LoadHfModels()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace mea::golden
