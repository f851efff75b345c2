#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "tests/golden/check_models.h"
#include "tests/golden/golden_data.h"
#include "tests/golden/offline_model.h"

// The engine on checkpoints that transformers saved, against what transformers makes of them; and
// on those with experts and composed heads, against the float64 oracles.
namespace mea::golden {
namespace {

class SavedModelsTest : public ::testing::TestWithParam<SavedModel> {
 protected:
  // Relative error of the last position's logits, after the greedy tokens turned out equal.
  double CheckGreedy(Backend& backend, const OfflineOptions& options) {
    const SavedModel& model = GetParam();
    OfflineModel offline(model.dir, backend, options);
    const int num_tokens = static_cast<int>(model.greedy.size());
    EXPECT_EQ(num_tokens, 64);
    EXPECT_EQ(offline.Greedy({&model.prompt, 1}, num_tokens)[0], model.greedy);

    const int last = static_cast<int>(model.prompt.size()) - 1;
    return RelativeError(offline.Logits(model.prompt, {&last, 1})[0], model.logits);
  }
};

// transformers itself is 1e-6 away from float64 (README.md).
TEST_P(SavedModelsTest, ReferenceBackEndContinuesAlike) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_LE(CheckGreedy(*backend, {.kv_dtype = DType::kF64, .page_size = 16, .chunk = 7}), 1e-5);
}

TEST_P(SavedModelsTest, CpuContinuesAlike) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const bool rounds = GetParam().name.ends_with("bf16") && CpuRoundsRows();
  EXPECT_LE(CheckGreedy(**backend, {.kv_dtype = DType::kF32, .page_size = 32, .chunk = 64}),
            rounds ? kBfloat.tolerance : 1e-4);
}

std::string NameOf(const ::testing::TestParamInfo<SavedModel>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(Hf, SavedModelsTest, ::testing::ValuesIn(LoadSavedModels("hf")), NameOf);
INSTANTIATE_TEST_SUITE_P(Mea, SavedModelsTest, ::testing::ValuesIn(LoadSavedModels("mea")), NameOf);

}  // namespace
}  // namespace mea::golden
