#include "engine/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include "engine/model/model_weights.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

TEST(CheckpointTest, CheckpointsOfTransformersLoadAsTheyAre) {
  int num_checkpoints = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MEA_SOURCE_DIR "/tests/golden/hf")) {
    if (!entry.is_directory()) continue;
    ++num_checkpoints;
    const auto checkpoint = OpenCheckpoint(entry.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_FALSE(checkpoint->config.compressed());
    const auto weights = LoadWeights(*checkpoint);
    EXPECT_TRUE(weights.ok()) << weights.status();
  }
  EXPECT_EQ(num_checkpoints, 14);
}

}  // namespace
}  // namespace mea
