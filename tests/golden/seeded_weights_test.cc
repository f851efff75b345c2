#include "tests/golden/seeded_weights.h"

#include <gtest/gtest.h>

#include "tests/golden/golden_data.h"

namespace mea::golden {
namespace {

// Without this, every disagreement of random_models_test would have two suspects.
TEST(SeededWeightsTest, BitsEqualThoseOfThePythonTwin) {
  for (const char* file : {"random_models.jsonl", "family_models.jsonl"}) {
    const std::vector<RandomModel> models = LoadRandomModels(file);
    EXPECT_FALSE(models.empty());
    for (const RandomModel& model : models) {
      uint64_t checksum = 0;
      for (const NamedShape& t : model.tensors) {
        checksum = Checksum(checksum, SeededTensor(model.seed, t.name, t.shape));
      }
      EXPECT_EQ(checksum, model.weights_checksum) << file << ": seed " << model.seed;
    }
  }
}

TEST(SeededWeightsTest, ChecksumSeesOrder) {
  EXPECT_NE(Checksum(0, std::vector<float>{1, 2}), Checksum(0, std::vector<float>{2, 1}));
  EXPECT_NE(Checksum(Checksum(0, std::vector<float>{1}), std::vector<float>{2}),
            Checksum(Checksum(0, std::vector<float>{2}), std::vector<float>{1}));
}

}  // namespace
}  // namespace mea::golden
