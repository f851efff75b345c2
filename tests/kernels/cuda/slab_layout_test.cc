#include "kernels/cuda/attention/slab_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace mea::cuda {
namespace {

const std::vector<SlabLayout> kLayouts = {{64, 64}, {64, 128}, {128, 64}, {192, 256},
                                          {64, 80}, {16, 64},  {48, 128}, {16, 2}};

TEST(SlabLayoutTest, EveryElementHasItsOwnPlace) {
  for (const SlabLayout layout : kLayouts) {
    std::set<int> places;
    for (int t = 0; t < layout.page_size; ++t) {
      for (int e = 0; e < layout.head_dim; ++e) {
        const int place = layout.Offset(t, e);
        EXPECT_GE(place, 0);
        EXPECT_LT(place, layout.slab_elements());
        EXPECT_TRUE(places.insert(place).second) << "token " << t << " element " << e;
      }
    }
  }
}

TEST(SlabLayoutTest, ATileOf64TokensIsContiguous) {
  for (const SlabLayout layout : kLayouts) {
    if (!layout.is_tiled()) continue;
    for (int t = 0; t < layout.page_size; ++t) {
      for (int e = 0; e < layout.head_dim; ++e) {
        EXPECT_EQ(layout.Offset(t, e) / layout.tile_elements(), t / SlabLayout::kTileTokens);
        EXPECT_EQ(layout.Offset(t, e) % layout.tile_elements(),
                  SlabLayout::TileOffset(t % SlabLayout::kTileTokens, e));
      }
    }
  }
}

TEST(SlabLayoutTest, AGranuleOf16BytesStaysWhole) {
  for (const SlabLayout layout : kLayouts) {
    if (!layout.is_tiled()) continue;
    for (int t = 0; t < layout.page_size; ++t) {
      for (int e = 0; e < layout.head_dim; e += SlabLayout::kGranuleElements) {
        EXPECT_EQ(layout.Offset(t, e) % SlabLayout::kGranuleElements, 0);
        for (int i = 1; i < SlabLayout::kGranuleElements; ++i) {
          EXPECT_EQ(layout.Offset(t, e + i), layout.Offset(t, e) + i);
        }
      }
    }
  }
}

// What the swizzle is for: eight tokens' granules of the same elements lie in different banks.
TEST(SlabLayoutTest, EightTokensOfAGranuleTouchAllBanks) {
  for (int first = 0; first < 64; first += 8) {
    for (int e = 0; e < 128; e += SlabLayout::kGranuleElements) {
      std::set<int> banks;
      for (int t = first; t < first + 8; ++t) {
        banks.insert(SlabLayout::TileOffset(t, e) * 2 % 128 / 16);
      }
      EXPECT_EQ(banks.size(), 8u);
    }
  }
}

TEST(SlabLayoutTest, NeighboursOfAPairStayTogetherInPlainSlabs) {
  const SlabLayout layout = {16, 80};
  EXPECT_FALSE(layout.is_tiled());
  EXPECT_EQ(layout.Offset(3, 17), 3 * 80 + 17);
  EXPECT_EQ(layout.SlabBegin(5, 3, 2), (5 * 3 + 2) * 16 * 80);
}

}  // namespace
}  // namespace mea::cuda
