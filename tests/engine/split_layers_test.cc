#include "engine/model/split_layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/support/random_model.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;

// Costs of a model whose layers weigh as said, and whose back end takes nothing.
StageCosts Costs(std::vector<int64_t> layer_weights) {
  const RandomModelSpec spec{.num_layers = static_cast<int>(layer_weights.size())};
  return StageCosts(MakeConfig(spec), {}, DType::kBf16, Device::kCuda,
                    [layer_weights](LayerRange layers) {
                      return std::accumulate(layer_weights.begin() + layers.begin,
                                             layer_weights.begin() + layers.end, int64_t{0});
                    },
                    {});
}

std::vector<int> Sizes(const std::vector<LayerRange>& ranges) {
  std::vector<int> sizes;
  int end = 0;
  for (const LayerRange& range : ranges) {
    EXPECT_EQ(range.begin, end);
    sizes.push_back(range.size());
    end = range.end;
  }
  return sizes;
}

constexpr int64_t kMiB = int64_t{1} << 20;

TEST(SplitLayersTest, EqualDevicesGetEqualParts) {
  const StageCosts costs = Costs(std::vector<int64_t>(8, kMiB));
  EXPECT_THAT(Sizes(SplitLayers(costs, std::vector<int64_t>{100 * kMiB}).value()), ElementsAre(8));
  EXPECT_THAT(Sizes(SplitLayers(costs, std::vector<int64_t>(2, 100 * kMiB)).value()),
              ElementsAre(4, 4));
  EXPECT_THAT(Sizes(SplitLayers(costs, std::vector<int64_t>(4, 100 * kMiB)).value()),
              ElementsAre(2, 2, 2, 2));
}

// An embedding and an output weigh as much as layers; so does a device with little memory left.
TEST(SplitLayersTest, WhoHasLessRoomGetsFewerLayers) {
  std::vector<int64_t> weights(8, 10 * kMiB);
  weights.front() = 60 * kMiB;
  EXPECT_THAT(Sizes(SplitLayers(Costs(weights), std::vector<int64_t>(2, 100 * kMiB)).value()),
              ElementsAre(2, 6));
  EXPECT_THAT(Sizes(SplitLayers(Costs(std::vector<int64_t>(8, kMiB)),
                                std::vector<int64_t>{100 * kMiB, 300 * kMiB})
                        .value()),
              ElementsAre(2, 6));
}

TEST(SplitLayersTest, EveryDeviceHasALayer) {
  std::vector<int64_t> weights(3, kMiB);
  weights.back() = 50 * kMiB;
  EXPECT_THAT(Sizes(SplitLayers(Costs(weights), std::vector<int64_t>(3, 60 * kMiB)).value()),
              ElementsAre(1, 1, 1));
  const auto too_many = SplitLayers(Costs(weights), std::vector<int64_t>(4, 60 * kMiB));
  EXPECT_EQ(too_many.status().message(),
            "--device names 4 devices, more than the model's 3 layers");
  EXPECT_TRUE(absl::IsInvalidArgument(too_many.status()));
}

// No other way to cut the layers has more pages.
TEST(SplitLayersTest, TheCacheHasTheMostPages) {
  for (int seed = 0; seed < 50; ++seed) {
    std::vector<int64_t> weights(7);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = (seed * 31 + i * i * 7) % 13 * kMiB;
    const StageCosts costs = Costs(weights);
    const std::vector<int64_t> memory = {(40 + seed % 9) * kMiB, 50 * kMiB, 45 * kMiB};
    const auto pages = [&](const std::vector<LayerRange>& ranges) {
      int64_t least = std::numeric_limits<int64_t>::max();
      for (size_t i = 0; i < ranges.size(); ++i) {
        least = std::min(least, costs.Of(ranges[i])->NumPages(memory[i]));
      }
      return least;
    };
    const int64_t chosen = pages(SplitLayers(costs, memory).value());
    for (int first = 1; first < 6; ++first) {
      for (int second = first + 1; second < 7; ++second) {
        EXPECT_LE(pages({{0, first}, {first, second}, {second, 7}}), chosen) << seed;
      }
    }
  }
}

}  // namespace
}  // namespace mea::testing
