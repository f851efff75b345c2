#include "kvcache/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "kernels/backend.h"
#include "kernels/int8_rows.h"

namespace mea {
namespace {

using ::testing::ElementsAre;

constexpr KvSpec kHalf{.key_heads = 4, .value_heads = 4, .head_dim = 64, .dtype = DType::kBf16};

TEST(KvLayoutTest, BytesFollowTheFormula) {
  EXPECT_EQ(KvBytesPerToken(kHalf), (4 + 4) * 64 * 2);
  EXPECT_EQ(UncompressedKvBytesPerToken(kHalf, 8), 2 * 8 * 64 * 2);
  const KvLayout layout{.layers = std::vector<KvSpec>(16, kHalf), .kv_heads = 8, .page_size = 32};
  EXPECT_EQ(layout.PageBytes(), 32 * 16 * 1024);
  EXPECT_EQ(layout.CompressionRatio(), 0.5);
}

TEST(KvLayoutTest, KeyNormScalarsAreCounted) {
  // The shape of Qwen3-30B-A3B with 2 of 4 heads: 0.508 of the uncompressed bytes.
  const KvSpec spec{.key_heads = 2,
                    .value_heads = 2,
                    .head_dim = 128,
                    .dtype = DType::kBf16,
                    .key_norm_heads = 4};
  EXPECT_EQ(KvBytesPerToken(spec), 1024 + 16);
  EXPECT_NEAR(KvLayout({.layers = {spec}, .kv_heads = 4, .page_size = 16}).CompressionRatio(),
              0.508, 0.0005);
}

TEST(KvLayoutTest, EightBitsCountTheirScales) {
  // Half of the heads in 8 bits: 0.258 of what all heads take in BF16.
  const KvSpec spec{.key_heads = 4, .value_heads = 4, .head_dim = 64, .dtype = DType::kI8};
  EXPECT_EQ(KvBytesPerToken(spec), (4 + 4) * (64 + 2));
  EXPECT_EQ(KvLayout({.layers = {spec}, .kv_heads = 8, .page_size = 16}).CompressionRatio(),
            66.0 / 256);
}

TEST(KvLayoutTest, FourBitsCountScalesZerosAndPadding) {
  KvSpec spec{.key_heads = 8, .value_heads = 8, .head_dim = 64, .dtype = DType::kI4};
  EXPECT_EQ(KvBytesPerToken(spec), (8 + 8) * (32 + 4));
  EXPECT_EQ(KvLayout({.layers = {spec}, .kv_heads = 8, .page_size = 16}).CompressionRatio(),
            36.0 / 128);
  spec.head_dim = 80;  // the third run of 32 is half empty
  EXPECT_EQ(KvBytesPerToken(spec), (8 + 8) * (48 + 4));
}

TEST(KvLayoutTest, UncompressedIsBf16WhateverIsStored) {
  for (const KvDTypes dtype : {KvDTypes(DType::kF32), KvDTypes(DType::kBf16), KvDTypes(DType::kI8),
                               KvDTypes(DType::kI8, DType::kI4)}) {
    const KvSpec spec{.key_heads = 4, .value_heads = 4, .head_dim = 64, .dtype = dtype};
    EXPECT_EQ(UncompressedKvBytesPerToken(spec, 8), 2 * 8 * 64 * 2) << KvDTypesName(dtype);
  }
}

TEST(KvLayoutTest, KeysAndValuesHaveTheirOwnFormats) {
  const KvSpec spec{.key_heads = 4,
                    .value_heads = 3,
                    .head_dim = 64,
                    .dtype = {DType::kI8, DType::kF32},
                    .key_norm_heads = 8};
  EXPECT_EQ(KvBytesPerToken(spec), 4 * (64 + 2) + 3 * 64 * 4 + 8 * 4);
}

TEST(KvLayoutTest, LayersMayDiffer) {
  const KvSpec full{.key_heads = 8, .value_heads = 8, .head_dim = 64, .dtype = DType::kBf16};
  const KvSpec uneven{.key_heads = 6, .value_heads = 2, .head_dim = 64, .dtype = DType::kBf16};
  const KvLayout layout{.layers = {full, uneven, kHalf}, .kv_heads = 8, .page_size = 16};
  EXPECT_EQ(layout.BytesPerToken(), 2048 + 1024 + 1024);
  EXPECT_EQ(layout.UncompressedBytesPerToken(), 3 * 2048);
  EXPECT_EQ(layout.PagesFor(0), 0);
  EXPECT_EQ(layout.PagesFor(16), 1);
  EXPECT_EQ(layout.PagesFor(17), 2);
}

KvLayout Windowed(std::vector<int> windows, int max_batch_tokens = 32) {
  KvLayout layout{.layers = std::vector<KvSpec>(windows.size(), kHalf),
                  .kv_heads = 8,
                  .page_size = 16,
                  .max_batch_tokens = max_batch_tokens};
  layout.GroupByWindow(windows);
  return layout;
}

TEST(KvLayoutTest, LayersOfOneWindowMakeGroupsOfEqualSize) {
  const KvLayout plain = Windowed({0, 0, 0});
  EXPECT_THAT(plain.group_windows, ElementsAre(0));
  EXPECT_THAT(Windowed({8, 8}).group_windows, ElementsAre(8));
  // Four of five layers see 64 tokens.
  const KvLayout mixed = Windowed({64, 64, 64, 64, 0, 64, 64, 64, 64, 0});
  EXPECT_THAT(mixed.group_windows, ElementsAre(0, 64, 64, 64, 64));
  EXPECT_THAT(mixed.layer_groups, ElementsAre(1, 2, 3, 4, 0, 1, 2, 3, 4, 0));
  EXPECT_THAT(mixed.layer_places, ElementsAre(0, 0, 0, 0, 0, 1, 1, 1, 1, 1));
  EXPECT_EQ(mixed.PageBytes(), plain.PageBytes() / 3 * 2);
  EXPECT_THAT(Windowed({8, 64, 0}).group_windows, ElementsAre(0, 64, 8));
}

// Two ranks: the cut between the places, and through the first.
TEST(KvLayoutTest, ARankStoresThePlacesOfItsLayers) {
  KvLayout layout = Windowed({64, 64, 64, 64, 0, 64, 64, 64, 64, 0});
  const int64_t whole = layout.PageBytes();
  layout.layer_ranks = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
  EXPECT_EQ(layout.num_ranks(), 2);
  EXPECT_EQ(layout.PageBytes(), whole);
  EXPECT_EQ(layout.RankPageBytes(0), whole / 2);
  EXPECT_EQ(layout.RankPageBytes(1), whole / 2);
  EXPECT_EQ(layout.StorageOf(4), 0);
  EXPECT_EQ(layout.StorageOf(9), 5);
  layout.layer_ranks = {0, 0, 0, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_EQ(layout.RankPageBytes(0), whole / 2);
  EXPECT_EQ(layout.RankPageBytes(1), whole) << "the first place is on both";
  EXPECT_EQ(layout.PageBytes(), whole / 2 * 3);
  EXPECT_EQ(layout.StorageOf(2), 0);
  EXPECT_EQ(layout.StorageOf(4), 3);
  KvLayout plain = Windowed({0, 0, 0});
  plain.layer_ranks = {0, 1, 1};
  EXPECT_EQ(plain.RankPageBytes(0), plain.PageBytes() / 3);
  EXPECT_EQ(plain.RankPageBytes(1), plain.PageBytes() / 3 * 2);
}

TEST(KvLayoutTest, LayersThatStoreDifferentThingsStayTogether) {
  KvSpec full = kHalf;
  full.key_heads = 8;
  KvLayout layout{.layers = {full, kHalf}, .kv_heads = 8, .page_size = 16};
  layout.GroupByWindow(std::vector<int>{0, 64});
  EXPECT_THAT(layout.group_windows, ElementsAre(0));
  EXPECT_EQ(layout.group_of(1), 0);
}

TEST(KvLayoutTest, ASequenceHoldsWhatItsWindowsSeeAndAStepAdds) {
  const KvLayout layout = Windowed({0, 64});
  for (int num_tokens = 1; num_tokens < 400; num_tokens += 7) {
    int most = 0;
    for (int computed = 0; computed < num_tokens; ++computed) {
      const int first = layout.FirstPage(1, computed);
      const int end = layout.EndPage(1, computed, num_tokens);
      ASSERT_LE(first * 16, std::max(0, computed - 64)) << "the window of the next token";
      ASSERT_GE(end * 16, std::min(num_tokens, computed + layout.max_batch_tokens));
      most = std::max(most, end - first);
    }
    const int all = (num_tokens + 15) / 16;
    EXPECT_LE(all + most, layout.PagesFor(num_tokens));
    EXPECT_LE(layout.PagesFor(num_tokens), all + most + 1) << num_tokens;
    EXPECT_GE(layout.MaxTokens(static_cast<int>(layout.PagesFor(num_tokens))), num_tokens);
  }
  EXPECT_LE(layout.PagesFor(100'000), 6250 + 8);
  EXPECT_EQ(Windowed({0}).MaxTokens(10), 160);
  EXPECT_EQ(Windowed({0}).MaxTokens(0), 0);
  EXPECT_EQ(Windowed({64}).MaxTokens(8), 1 << 30) << "its length does not count";
  EXPECT_EQ(Windowed({64}).MaxTokens(5), 80);
}

class KvCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<KvCache> Create(int num_pages) {
    return KvCache::Create(*backend_, {.layers = {kHalf, kHalf}, .kv_heads = 8, .page_size = 16},
                           num_pages)
        .value();
  }
  std::unique_ptr<Backend> backend_ = CreateReferenceBackend();
};

TEST_F(KvCacheTest, AllocatesExactlyWhatTheFormulaSays) {
  const auto cache = Create(10);
  EXPECT_EQ(cache->allocated_bytes(), 10 * cache->layout().PageBytes());
  EXPECT_EQ(cache->stats().total_bytes, cache->allocated_bytes());
}

TEST_F(KvCacheTest, HalfOfTheHeadsTakesHalfOfTheTwinsBytes) {
  const KvSpec full{.key_heads = 8, .value_heads = 8, .head_dim = 64, .dtype = DType::kBf16};
  const auto twin =
      KvCache::Create(*backend_, {.layers = {full, full}, .kv_heads = 8, .page_size = 16}, 10);
  EXPECT_EQ(2 * Create(10)->allocated_bytes(), (*twin)->allocated_bytes());
}

TEST_F(KvCacheTest, SlabsAreContiguousAndLayersKeepTheirSpecs) {
  const auto cache = Create(3);
  const PagedKvView layer = cache->layer(1);
  EXPECT_EQ(layer.spec, kHalf);
  EXPECT_EQ(layer.page_size, 16);
  EXPECT_EQ(layer.keys.shape, (std::array<int64_t, 4>{3, 4, 16, 64}));
  EXPECT_TRUE(layer.keys.is_dense());
  EXPECT_TRUE(layer.key_norms.empty());
  EXPECT_NE(layer.keys.data, cache->layer(0).keys.data);
}

TEST_F(KvCacheTest, EachRankHasItsLayersPartOfEveryPage) {
  const auto second = CreateReferenceBackend();
  KvLayout layout{.layers = {kHalf, kHalf, kHalf}, .kv_heads = 8, .page_size = 16};
  layout.layer_ranks = {0, 1, 1};
  std::vector<std::pair<Backend*, int64_t>> allocated;
  const auto cache =
      KvCache::Create({backend_.get(), second.get()}, layout, 5,
                      [&](Backend& backend, std::span<const int64_t> shape, DType dtype) {
                        auto tensor = backend.Allocate(shape, dtype);
                        allocated.emplace_back(&backend, tensor->num_bytes());
                        return tensor;
                      })
          .value();
  int64_t of_second = 0;
  for (const auto& [backend, bytes] : allocated) of_second += backend == second.get() ? bytes : 0;
  EXPECT_EQ(of_second, 5 * layout.RankPageBytes(1));
  EXPECT_EQ(cache->allocated_bytes(), 5 * layout.PageBytes());
}

TEST_F(KvCacheTest, ReserveGivesAllPagesOrNone) {
  const auto cache = Create(4);
  PageTable table = cache->NewPageTable();
  EXPECT_TRUE(cache->Reserve(table, 0, 17));
  EXPECT_EQ(table.num_pages(), 2);
  EXPECT_FALSE(cache->Reserve(table, 0, 80));
  EXPECT_EQ(table.num_pages(), 2);
  EXPECT_EQ(cache->num_free_pages(), 2);
  EXPECT_TRUE(cache->Reserve(table, 0, 64));
  EXPECT_EQ(cache->num_free_pages(), 0);
}

TEST_F(KvCacheTest, WhatAWindowHasLeftIsGivenBack) {
  const auto cache = KvCache::Create(*backend_, Windowed({0, 64, 64}), 40).value();
  EXPECT_EQ(cache->allocated_bytes(), 40 * cache->layout().PageBytes());
  EXPECT_EQ(cache->layer(0).keys.data, cache->layer(2).keys.data)
      << "pages differ, storage does not";
  PageTable table = cache->NewPageTable();
  for (int computed = 0; computed < 300; computed += 30) {
    ASSERT_TRUE(cache->Reserve(table, computed, 300));
    EXPECT_EQ(table.pages(0).size(), 19u);
    for (int group : {1, 2}) {
      const std::span<const int32_t> pages = table.pages(group);
      EXPECT_EQ(std::ranges::count(pages, PageTable::kNone),
                cache->layout().FirstPage(group, computed));
    }
  }
  EXPECT_EQ(cache->stats().used_pages, table.num_pages());
  EXPECT_LE(table.num_pages(), cache->layout().PagesFor(300));
  EXPECT_LT(cache->layout().PagesFor(300), 3 * 19);
  // A fork in the middle of a page: four pages of the windows, which both share but for the last.
  ASSERT_TRUE(cache->Reserve(table, 299, 300));
  const int used = cache->stats().used_pages;
  PageTable fork = cache->NewPageTable();
  ASSERT_TRUE(cache->Fork(table, 298, fork));
  EXPECT_EQ(cache->stats().used_pages, used + 3) << "a copy for each group";
  PageTable early = cache->NewPageTable();
  EXPECT_FALSE(cache->Fork(table, 200, early)) << "its window is gone";
  EXPECT_EQ(early.num_pages(), 0);
  table.Clear();
  fork.Clear();
  EXPECT_EQ(cache->stats().used_pages, 0);
}

TEST_F(KvCacheTest, AForkSharesFullPagesAndCopiesThePartlyFilledOne) {
  const auto cache = Create(6);
  PageTable table = cache->NewPageTable();
  ASSERT_TRUE(cache->Reserve(table, 0, 40));
  const auto key = [&](int layer, int32_t page) {
    return static_cast<uint16_t*>(cache->layer(layer).keys.Rows(page, 1).data);
  };
  for (int layer = 0; layer < 2; ++layer) {
    for (int i = 0; i < 4 * 16 * 64; ++i) key(layer, table.pages()[2])[i] = 100 * layer + i;
  }
  PageTable fork = cache->NewPageTable();
  ASSERT_TRUE(cache->Fork(table, 39, fork));
  ASSERT_EQ(fork.num_pages(), 3);
  EXPECT_EQ(fork.pages()[0], table.pages()[0]);
  EXPECT_EQ(fork.pages()[1], table.pages()[1]);
  EXPECT_NE(fork.pages()[2], table.pages()[2]);
  EXPECT_EQ(cache->stats().used_pages, 4) << "shared pages count once";
  for (int layer = 0; layer < 2; ++layer) {
    for (int i = 0; i < 4 * 16 * 64; ++i) {
      ASSERT_EQ(key(layer, fork.pages()[2])[i], static_cast<uint16_t>(100 * layer + i));
    }
  }
  PageTable full = cache->NewPageTable();
  ASSERT_TRUE(cache->Fork(table, 32, full));
  EXPECT_EQ(full.num_pages(), 2);
  EXPECT_EQ(cache->stats().used_pages, 4) << "nothing to copy";
  table.Clear();
  EXPECT_EQ(cache->stats().used_pages, 3) << "the fork lives on";
  PageTable large = cache->NewPageTable();
  ASSERT_TRUE(cache->Reserve(large, 0, 48));
  PageTable late = cache->NewPageTable();
  EXPECT_FALSE(cache->Fork(fork, 39, late)) << "no page for the copy";
  EXPECT_EQ(late.num_pages(), 0);
}

TEST_F(KvCacheTest, SlabsInEightBitsCarryTheirScales) {
  KvSpec spec = kHalf;
  spec.dtype = DType::kI8;
  const auto cache =
      KvCache::Create(*backend_, {.layers = {spec}, .kv_heads = 8, .page_size = 16}, 3).value();
  EXPECT_EQ(cache->allocated_bytes(), 3 * cache->layout().PageBytes());
  const TensorView keys = cache->layer(0).keys;
  EXPECT_EQ(keys.shape, (std::array<int64_t, 4>{3, 4, 16, 64}));
  EXPECT_EQ(keys.stride, (std::array<int64_t, 4>{4 * 16 * 66, 16 * 66, 64, 1}));
  PageTable table = cache->NewPageTable();
  ASSERT_TRUE(cache->Reserve(table, 0, 5));
  int8_t* const slab = keys.row<int8_t>(table.pages()[0]) + 2 * keys.stride[1];
  slab[100] = 17;
  SlabScales(slab, 16, 64)[3] = ToBf16(0.5f);
  PageTable fork = cache->NewPageTable();
  ASSERT_TRUE(cache->Fork(table, 4, fork));
  const int8_t* const copy = keys.row<int8_t>(fork.pages()[0]) + 2 * keys.stride[1];
  EXPECT_EQ(copy[100], 17);
  EXPECT_EQ(ToFloat(SlabScales(copy, 16, 64)[3]), 0.5f);
}

TEST_F(KvCacheTest, SlabsOfKeysAndValuesHaveTheirOwnFormats) {
  KvSpec spec = kHalf;
  spec.dtype = {DType::kI4, DType::kF32};
  const auto cache =
      KvCache::Create(*backend_, {.layers = {spec}, .kv_heads = 8, .page_size = 16}, 3).value();
  EXPECT_EQ(cache->allocated_bytes(), 3 * cache->layout().PageBytes());
  EXPECT_EQ(cache->layer(0).keys.dtype, DType::kI4);
  EXPECT_EQ(cache->layer(0).keys.stride, (std::array<int64_t, 4>{4 * 16 * 36, 16 * 36, 32, 1}));
  EXPECT_EQ(cache->layer(0).values.dtype, DType::kF32);
  EXPECT_EQ(cache->layer(0).values.stride, (std::array<int64_t, 4>{4 * 16 * 64, 16 * 64, 64, 1}));
}

TEST_F(KvCacheTest, ATableThatDiesGivesItsPagesBack) {
  const auto cache = Create(4);
  {
    PageTable table = cache->NewPageTable();
    ASSERT_TRUE(cache->Reserve(table, 0, 50));
    const PageTable moved = std::move(table);
    EXPECT_EQ(moved.num_pages(), 4);
    EXPECT_EQ(cache->stats().used_pages, 4);
  }
  EXPECT_EQ(cache->stats().used_pages, 0);
  EXPECT_EQ(cache->stats().used_bytes, 0);
}

TEST_F(KvCacheTest, FreePlusUsedIsTotalUnderRandomUse) {
  const uint64_t seed = 7;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto cache = Create(50);
  std::vector<PageTable> tables;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 3 == 0 || tables.empty()) {
      tables.push_back(cache->NewPageTable());
    } else if (random() % 2 == 0) {
      PageTable& table = tables[random() % tables.size()];
      const int free_before = cache->num_free_pages();
      const int held_before = table.num_pages();
      if (!cache->Reserve(table, 0, static_cast<int>(random() % 200))) {
        ASSERT_EQ(cache->num_free_pages(), free_before);
        ASSERT_EQ(table.num_pages(), held_before);
      }
    } else {
      tables.pop_back();
    }
    std::set<int32_t> held;
    int count = 0;
    for (const PageTable& table : tables) {
      held.insert(table.pages().begin(), table.pages().end());
      count += table.num_pages();
    }
    ASSERT_EQ(static_cast<int>(held.size()), count) << "a page has two owners";
    const KvCacheStats stats = cache->stats();
    ASSERT_EQ(stats.used_pages, count);
    ASSERT_EQ(stats.used_pages + stats.free_pages, stats.num_pages);
  }
}

TEST(PagePoolTest, SharedPagesAreFreeAfterTheirLastHolder) {
  PagePool pool(2);
  const int32_t page = pool.Take();
  pool.AddRef(page);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 1);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 2);
}

}  // namespace
}  // namespace mea
