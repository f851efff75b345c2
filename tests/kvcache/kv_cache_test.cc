#include "kvcache/kv_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kernels/backend.h"

namespace mea {
namespace {

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

TEST_F(KvCacheTest, ReserveGivesAllPagesOrNone) {
  const auto cache = Create(4);
  PageTable table = cache->NewPageTable();
  EXPECT_TRUE(cache->Reserve(table, 17));
  EXPECT_EQ(table.num_pages(), 2);
  EXPECT_FALSE(cache->Reserve(table, 80));
  EXPECT_EQ(table.num_pages(), 2);
  EXPECT_EQ(cache->num_free_pages(), 2);
  EXPECT_TRUE(cache->Reserve(table, 64));
  EXPECT_EQ(cache->num_free_pages(), 0);
}

TEST_F(KvCacheTest, AForkSharesFullPagesAndCopiesThePartlyFilledOne) {
  const auto cache = Create(6);
  PageTable table = cache->NewPageTable();
  ASSERT_TRUE(cache->Reserve(table, 40));
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
  ASSERT_TRUE(cache->Reserve(large, 48));
  PageTable late = cache->NewPageTable();
  EXPECT_FALSE(cache->Fork(fork, 39, late)) << "no page for the copy";
  EXPECT_EQ(late.num_pages(), 0);
}

TEST_F(KvCacheTest, ATableThatDiesGivesItsPagesBack) {
  const auto cache = Create(4);
  {
    PageTable table = cache->NewPageTable();
    ASSERT_TRUE(cache->Reserve(table, 50));
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
      if (!cache->Reserve(table, static_cast<int>(random() % 200))) {
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
